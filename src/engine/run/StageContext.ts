/** What a running stage may ask of the engine: bytes in and out of the store, work units, progress, its log. */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import { open } from "node:fs/promises"
import type { Blob } from "../Artifact.ts"
import * as Key from "../plan/Key.ts"
import type { Lease } from "../store/Leases.ts"
import type { Meter } from "./Machine.ts"
import * as Output from "./Output.ts"
import type { Cell } from "../plan/Plan.ts"
import { BlobLost, StageFailure } from "../Problem.ts"
import type { Sink } from "./Progress.ts"
import * as Publish from "./Publish.ts"
import type * as Stage from "../Stage.ts"
import type { Service as Store } from "../store/Store.ts"
import { StoreError } from "../store/StoreError.ts"

/** What all cells of a run share. */
export interface Environment {
  readonly store: Store
  readonly study: string
  /** Every source file of the plan, by the digest of its content. */
  readonly files: ReadonlyMap<string, string>
  readonly fingerprint: Stage.Context["fingerprint"]
  /** Name and version of what the code behind a fingerprint computes with. */
  readonly runtime: (code: string) => { readonly [name: string]: string }
  readonly progress: Sink
  readonly meter: Meter
}

export interface Running {
  readonly context: Stage.Context
  readonly log: ReadonlyArray<string>
  /** Digests of the source files that were looked into. */
  readonly touched: ReadonlySet<string>
  /** Bytes of what was put, by digest. */
  readonly stored: ReadonlyMap<string, number>
}

/** Bytes read and hashed at a time, so that the event loop gets its turn. */
const sliceSize = 4 << 20

const toFailure = (cause: unknown) =>
  new StageFailure({ reason: cause instanceof Error ? cause.message : String(cause) })

/** A slice of a file, checked against the digest of the slice. */
const readSlice = (path: string, offset: number, blob: Blob) =>
  Effect.acquireUseRelease(
    Effect.tryPromise({ try: () => open(path, "r"), catch: toFailure }),
    (file) =>
      Effect.gen(function* () {
        const bytes = new Uint8Array(new SharedArrayBuffer(blob.bytes))
        const hash = createHash("sha256")
        for (let at = 0; at < blob.bytes;) {
          const { bytesRead } = yield* Effect.tryPromise({
            try: () => file.read(bytes, at, Math.min(sliceSize, blob.bytes - at), offset + at),
            catch: toFailure,
          })
          if (bytesRead === 0) break
          hash.update(bytes.subarray(at, at + bytesRead))
          at += bytesRead
        }
        if (hash.digest("hex") === blob.blob) return bytes
        return yield* new BlobLost({ digest: blob.blob, reason: `is no longer at byte ${offset} of ${path}` })
      }),
    (file) => Effect.promise(() => file.close()),
  )

export const make = <R>(environment: Environment, cell: Cell<R>, seed: bigint): Running => {
  const { files, progress, store } = environment
  const log: Array<string> = []
  const touched = new Set(Object.values(cell.sources).map((source) => source.digest))
  const stored = new Map<string, number>()
  const started = Date.now()

  const locate: Stage.Context["locate"] = ({ within }) => {
    const path = within && files.get(within.file)
    if (path === undefined) return undefined
    touched.add(within!.file)
    return { path, offset: within!.offset }
  }
  const read: Stage.Context["read"] = (blob) => {
    if (blob.within === undefined) return store.readBlob(blob)
    const place = locate(blob)
    return place === undefined
      ? Effect.fail(new BlobLost({ digest: blob.blob, reason: "is part of a file that this study does not read" }))
      : readSlice(place.path, place.offset, blob)
  }
  const memo = Effect.fnUntraced(function* <A, E, R2>(
    name: string,
    preimage: Schema.Json,
    schema: Schema.Codec<A, Schema.Json>,
    compute: Effect.Effect<A, E, R2>,
  ): Effect.fn.Return<A, E | BlobLost | StageFailure, R2> {
    const text = Key.canonical(["unit/1", cell.identity.code, name, preimage])
    const key = Key.sha256(text)
    const find = Effect.sync(() => {
      const trace = store.trace(key)
      return trace && store.isComplete(trace) ? trace : undefined
    })
    const publish = (lease: Lease) =>
      Publish.measured(environment, {
        key,
        kind: "unit",
        stage: name,
        // Not the cell's own name: who looks for its earlier results does not want to find hundreds of units.
        cell: `${cell.id} / ${name}`,
        coordinates: cell.coordinates,
        code: cell.identity.code,
        inputs: {},
        preimage: text,
        touched,
        log: [],
        lease,
        compute: Effect.flatMap(compute, (value) => Output.encode(`the work unit '${name}'`, schema, value)),
      })
    const trace = yield* Effect.mapError(
      store.singleFlight(key, find, (lease) => Effect.map(publish(lease), (published) => published.trace)),
      (error) => (error instanceof StoreError ? toFailure(error) : error),
    )
    return yield* Output.decode(trace.output, schema, store.getDocument(trace.output))
  })

  const context: Stage.Context = {
    put: (bytes) =>
      store.putBlob(bytes).pipe(
        Effect.mapError(toFailure),
        Effect.tap((blob) => Effect.sync(() => stored.set(blob.blob, blob.bytes))),
      ),
    read,
    locate,
    memo,
    sources: cell.sources,
    fingerprint: environment.fingerprint,
    seed,
    progress: (done, total, unit) =>
      Effect.sync(() => progress.emit({ event: "progress", cell: cell.id, done, total, unit })),
    log: (message) =>
      Effect.sync(() => {
        log.push(`${((Date.now() - started) / 1000).toFixed(1).padStart(8)} s  ${message}`)
        progress.emit({ event: "log", cell: cell.id, message })
      }),
  }
  return { context, log, touched, stored }
}
