/**
 * A process that computes keys through a store, to be run beside others and to be killed:
 * `node workload.ts <directory> <journal> <first> <count>`. It says `ready` once the store is open. The journal gets a
 * line `computed <i>` before a result is published and `published <i>` once that is acknowledged.
 */
import * as Effect from "effect/Effect"
import { appendFileSync, writeSync } from "node:fs"
import { sha256 } from "../../../src/engine/store/Codec.ts"
import { Store } from "../../../src/engine/store/Store.ts"
import type { Trace } from "../../../src/engine/store/Trace.ts"

export const keyOf = (i: number): string => sha256(`key ${i}`)
/** Two blobs for each key, of up to 5 MiB; the second is shared by eight keys. */
export const blobsOf = (i: number): ReadonlyArray<Uint8Array> => {
  const length = [1_000, 70_000, 1_000, 5_000_000, 1_000, 400_000, 70_000, 0][i % 8]!
  return [Buffer.alloc(length, sha256(`blob ${i}`)), Buffer.alloc(300_000, sha256(`shared ${i >> 3}`))]
}
export const outputOf = (i: number, blobs: ReadonlyArray<string>): string => JSON.stringify({ i, blobs })

export const traceOf = (i: number, output: string, blobs: ReadonlyArray<string>): Trace => ({
  key: keyOf(i),
  kind: "stage",
  stage: "workload",
  cell: `workload/${i}`,
  coordinates: {},
  output,
  blobs,
  inputs: {},
  preimage: keyOf(i),
  provenance: {
    code: "",
    runtime: {},
    platform: "",
    cpu: "",
    started: Date.now(),
    seconds: 1,
    peakMemory: 0,
    study: "crash",
  },
})

const found = (i: number) =>
  Effect.map(Store, (store) => {
    const trace = store.trace(keyOf(i))
    return trace && store.isComplete(trace) ? trace : undefined
  })

/** The trace of key `i`, found or computed. */
export const compute = (i: number, note: (line: string) => void) =>
  Effect.flatMap(Store, (store) =>
    store.singleFlight(
      keyOf(i),
      found(i),
      Effect.fnUntraced(function* (lease) {
        const blobs = yield* Effect.forEach(blobsOf(i), store.putBlob)
        const digests = blobs.map(({ blob }) => blob)
        const output = outputOf(i, digests)
        note(`computed ${i}\n`)
        const { trace } = yield* store.publish({
          trace: traceOf(i, sha256(output), digests),
          documents: [output],
          preimage: `{"i":${i}}`,
          staticKey: sha256(`static ${i}`),
          lease,
        })
        note(`published ${i}\n`)
        return trace
      }),
    ),
  )

if (import.meta.main) {
  const [directory, journal, first, count] = process.argv.slice(2)
  const keys = Array.from({ length: Number(count) }, (_, i) => Number(first) + i)
  const work = Effect.gen(function* () {
    writeSync(1, "ready\n")
    yield* Effect.forEach(keys, (i) => compute(i, (line) => appendFileSync(journal!, line)), { concurrency: 4 })
  })
  await Effect.runPromise(Effect.provide(work, Store.layer(directory!)))
}
