/** Computes something, measures it, and writes it into the store with how it came to be. */
import * as Effect from "effect/Effect"
import type { Lease } from "../store/Leases.ts"
import * as Machine from "./Machine.ts"
import type { Output } from "./Output.ts"
import { StageFailure } from "../Problem.ts"
import type { Environment } from "./StageContext.ts"
import type { Coordinates } from "../Stage.ts"
import type { Trace } from "../store/Trace.ts"

export interface Computation<E, R> {
  readonly key: string
  readonly kind: Trace["kind"]
  readonly stage: string
  readonly cell: string
  readonly coordinates: Coordinates
  /** Fingerprint of the code that computes it. */
  readonly code: string
  readonly inputs: Trace["inputs"]
  /** What is kept under the key for `why`. */
  readonly preimage: string
  readonly staticKey?: string
  /** Digests of the source files that were looked into; grows while it computes. */
  readonly touched: ReadonlySet<string>
  /** Lines; grows while it computes. */
  readonly log: ReadonlyArray<string>
  readonly lease: Lease
  readonly compute: Effect.Effect<Output, E, R>
}

/** A result made from a file that was edited meanwhile belongs to neither version. */
const checkFiles = Effect.fnUntraced(function* ({ files, store }: Environment, touched: ReadonlySet<string>) {
  for (const digest of touched) {
    const path = files.get(digest)!
    if (!(yield* store.unchanged(path, digest)))
      return yield* new StageFailure({ reason: `${path} changed while it was being read; nothing was kept, run again` })
  }
})

export const measured = Effect.fnUntraced(function* <E, R>(environment: Environment, computation: Computation<E, R>) {
  const { compute, key, kind, stage, cell, coordinates, code, inputs, lease, log, preimage, touched } = computation
  const { files, meter, runtime, store, study } = environment
  const started = Date.now()
  const stop = meter.start()
  let peakMemory = 0
  const output = yield* Effect.onExit(compute, () => Effect.sync(() => void (peakMemory = stop())))
  const seconds = (Date.now() - started) / 1000

  const unknown = output.references.files.find((file) => !files.has(file))
  if (unknown !== undefined)
    return yield* new StageFailure({ reason: `refers to a file that is none of the study's sources (${unknown})` })
  yield* checkFiles(environment, touched)

  const logText = log.length === 0 ? undefined : `${log.join("\n")}\n`
  const logDigest = logText === undefined ? undefined : yield* store.putDocument(logText)
  const trace: Trace = {
    key,
    kind,
    stage,
    cell,
    coordinates,
    output: output.digest,
    blobs: output.references.blobs,
    inputs,
    preimage: key,
    provenance: {
      code,
      runtime: runtime(code),
      ...Machine.describe(),
      started,
      seconds,
      peakMemory,
      study,
      ...(logDigest !== undefined && { log: logDigest }),
    },
  }
  const publication = {
    trace,
    documents: [output.text],
    preimage,
    ...(computation.staticKey !== undefined && { staticKey: computation.staticKey }),
  }
  const published = yield* store.publish({ ...publication, lease })
  // Without its lease the result is as good as with it: two that compute one key publish the same.
  return published.outcome === "fenced" ? yield* store.publish(publication) : published
})
