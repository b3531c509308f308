/**
 * The cache: content-addressed bytes, and traces that say which key gave which output.
 *
 * Objects are written before the trace that names them, every write is durable when its effect succeeds, and every
 * record is checked when it is read: a wrong or unknown record is a miss, never a guess. Members that are plain
 * functions cost a few microseconds; they are what a run in which nothing changed consists of.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Blob } from "../Artifact.ts"
import * as Blobs from "./Blobs.ts"
import { decode, encode, key, Kind, sha256 } from "./Codec.ts"
import * as Costs from "./Costs.ts"
import * as Database from "./Database.ts"
import * as Documents from "./Documents.ts"
import * as FileDigests from "./FileDigests.ts"
import * as Leases from "./Leases.ts"
import * as Lmdb from "./Lmdb.ts"
import * as Owner from "./Owner.ts"
import { BlobLost } from "../Problem.ts"
import * as Runs from "./Runs.ts"
import { StoreError } from "./StoreError.ts"
import type { Published, Trace } from "./Trace.ts"
import * as Traces from "./Traces.ts"

/** What is published together, in one transaction. */
export interface Publication {
  readonly trace: Trace
  /** Documents the trace names (output, log); they may also have been put before. */
  readonly documents?: ReadonlyArray<string | Uint8Array>
  /** Canonical text of what the key was made from. */
  readonly preimage?: string
  /** The static key that led here. */
  readonly staticKey?: string
  /** Given, the publication is refused once the lease has passed to another owner. */
  readonly lease?: Leases.Lease
}

export interface Service {
  /** Keep bytes under their SHA-256; present bytes are not written again. Yields to the event loop between chunks. */
  readonly putBlob: (bytes: Uint8Array) => Effect.Effect<Blob, StoreError>
  /**
   * The bytes in a fresh buffer, each chunk checked. Missing or wrong: the object is dropped, and `BlobLost`. With
   * `into`, a buffer at least as long, they are put there: fresh memory costs as much as the reading.
   */
  readonly readBlob: (
    ref: { readonly blob: string; readonly bytes: number },
    into?: Uint8Array<SharedArrayBuffer>,
  ) => Effect.Effect<Uint8Array<SharedArrayBuffer>, BlobLost>
  readonly hasBlob: (digest: string) => boolean

  /** Keep a document (JSON text or bytes) under its SHA-256, which is returned. */
  readonly putDocument: (content: string | Uint8Array) => Effect.Effect<string, StoreError>
  /** The document, checked against its digest; `undefined` when missing or wrong. */
  readonly getDocument: (digest: string) => Uint8Array | undefined

  /** The trace under a content key. Its bytes may be gone: see `isComplete`. */
  readonly trace: (key: string) => Trace | undefined
  /** Whether the trace's document and all its blobs are present. */
  readonly isComplete: (trace: Trace) => boolean
  /** Write a trace with its documents; `BlobLost` when something it names is in neither the store nor `documents`. */
  readonly publish: (publication: Publication) => Effect.Effect<Published, StoreError | BlobLost>
  /** The content key that a static key led to. */
  readonly resolveStatic: (staticKey: string) => string | undefined
  readonly linkStatic: (staticKey: string, contentKey: string) => Effect.Effect<void, StoreError>

  readonly putPreimage: (name: string, text: string) => Effect.Effect<void, StoreError>
  readonly preimage: (name: string) => string | undefined
  /** Earlier traces to compare with, nearest first: the same study and cell, then the same stage; newest first. */
  readonly nearest: (study: string, cell: string, stage: string, limit: number) => ReadonlyArray<Trace>

  readonly recordCost: (cost: Omit<Costs.Cost, "runs">) => Effect.Effect<void, StoreError>
  readonly costs: () => ReadonlyArray<Costs.Cost>

  /** SHA-256 of a file's content, remembered until the file changes. Fails with `Changed` if it never holds still. */
  readonly fileDigest: (path: string) => Effect.Effect<string, StoreError>
  /** The remembered digest, if the file is untouched since it was hashed: one `stat`. */
  readonly knownFileDigest: (path: string) => string | undefined
  /** Whether the file still has this content: a `stat`, and hashing only if that is not enough. */
  readonly unchanged: (path: string, digest: string) => Effect.Effect<boolean, StoreError>

  /** Small derived facts (code fingerprints, say) by a name of the caller's choosing. */
  readonly recall: (name: string) => string | undefined
  /** Written a moment later, and not at all if that fails: for what is cheap to lose. */
  readonly remember: (name: string, text: string) => void

  /**
   * Compute a key once, whoever asks: fibers of this process wait for the first of them, processes for the holder of a
   * lease. `lookup` is asked first, and again after every wait; `compute` runs only while it answers `undefined`. Pass
   * the lease to `publish`. A failure of `compute` is shared by the fibers that waited for it.
   */
  readonly singleFlight: <A, E, R, E2, R2>(
    key: string,
    lookup: Effect.Effect<A | undefined, E, R>,
    compute: (lease: Leases.Lease) => Effect.Effect<A, E2, R2>,
  ) => Effect.Effect<A, E | E2 | StoreError, R | R2>

  /**
   * Announce a run for as long as the effect lasts. What the traces under `holds` name, and whatever is put while it
   * lasts, is not evicted.
   */
  readonly withRun: <A, E, R>(
    run: { readonly study: string; readonly holds: ReadonlyArray<string> },
    effect: Effect.Effect<A, E, R>,
  ) => Effect.Effect<A, E | StoreError, R>

  /** What it all rests on, and who this process is, for maintenance. */
  readonly files: Database.Files
  readonly owner: Owner.Owner
}

export interface Options {
  /** Open even on a network file system, where locks and memory maps may not hold. */
  readonly allowNetwork?: boolean
}

const make = (files: Database.Files, here: Owner.Owner): Effect.Effect<Service, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { index, objects } = files
    const opened = Date.now()
    const leases = Leases.make(index, here)
    const runs = new Map<string, Runs.Run>()
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.delay(
          Effect.suspend(() => {
            files.touch()
            return Effect.ignore(Effect.andThen(leases.beat, Runs.beat(index, runs)))
          }),
          Owner.beat,
        ),
      ),
    )
    const documentOf = (digest: string) => Documents.get(index, objects, digest)

    return {
      files,
      owner: here,
      putBlob: (bytes) => Blobs.put(index, objects, opened, bytes),
      readBlob: (ref, into) => Blobs.read(index, objects, ref, into),
      hasBlob: (digest) => Blobs.manifest(index, digest) !== undefined,
      putDocument: (content) => Documents.put(index, objects, opened, content),
      getDocument: documentOf,
      trace: (key) => Traces.get(index, key),
      isComplete: (trace) => Traces.isComplete(index, trace),
      publish: Effect.fnUntraced(function* ({ trace, documents = [], preimage, staticKey, lease }) {
        const all = documents.map(Documents.document)
        for (const it of all) if (!Documents.isInline(it)) yield* Blobs.put(index, objects, opened, it.bytes)
        const small = all.filter(Documents.isInline)
        const published = yield* index.write((transaction) =>
          Traces.publish(index, transaction, { trace, documents: small, preimage, staticKey, lease }),
        )
        if (published.outcome === "missing")
          return yield* new BlobLost({ digest: published.digest, reason: "is named by a trace but was never put" })
        if (published.outcome !== "fenced" && Traces.get(index, trace.key) === undefined)
          return yield* new StoreError({ kind: "Io", reason: `the trace ${trace.key} is not there after its commit` })
        return published
      }),
      resolveStatic: (staticKey) => Traces.resolveStatic(index, staticKey),
      linkStatic: (staticKey, contentKey) =>
        Traces.resolveStatic(index, staticKey) === contentKey
          ? Effect.void
          : index.write((transaction) => Traces.linkStatic(transaction, staticKey, contentKey)),
      putPreimage: (name, text) => index.write((transaction) => Traces.putPreimage(transaction, name, text)),
      preimage: (name) => Traces.preimage(index, name),
      nearest: (study, cell, stage, limit) => Traces.nearest(index, study, cell, stage, limit),
      recordCost: (cost) => index.write((transaction) => Costs.record(index, transaction, cost)),
      costs: () => Costs.all(index),
      fileDigest: (path) => FileDigests.digest(index, path),
      knownFileDigest: (path) => FileDigests.known(index, path),
      unchanged: (path, digest) => FileDigests.unchanged(index, path, digest),
      recall: (name) => {
        const at = key(Kind.fact, sha256(name))
        const record = index.get(at)
        return record && decode(at, record)?.toString()
      },
      remember: (name, text) => {
        const at = key(Kind.fact, sha256(name))
        index.writeLater((transaction) => transaction.put(at, encode(at, Buffer.from(text))))
      },
      singleFlight: leases.singleFlight,
      withRun: ({ study, holds }, effect) =>
        Runs.during(index, runs, { owner: here, study, holds, since: opened, heartbeat: Date.now() }, effect),
    } satisfies Service
  })

export class Store extends Context.Service<Store, Service>()("assay/engine/Store") {
  /** A store in a directory, made on first use. Closed, with everything written, when the layer's scope ends. */
  static readonly layer = (directory: string, options: Options = {}): Layer.Layer<Store, StoreError> =>
    Layer.effect(
      Store,
      Effect.suspend(() => {
        const here = Owner.self()
        return Effect.flatMap(Lmdb.open(directory, here, options.allowNetwork ?? false), (files) => make(files, here))
      }),
    )

  /** The same behaviour in memory, gone with the layer. */
  static readonly layerMemory: Layer.Layer<Store> = Layer.effect(
    Store,
    Effect.suspend(() => make(Database.inMemory(), Owner.self())),
  )
}
