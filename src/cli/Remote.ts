/**
 * Sources on the hub as the plan takes them: files on this machine, pinned in the study's lock. What is missing is fetched
 * while the study is planned, since the plan is made of the files' digests.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Problem } from "../engine/Problem.ts"
import type * as Stage from "../engine/Stage.ts"
import { Store } from "../engine/store/Store.ts"

/** Milliseconds between two lines about a download. */
const PAUSE = 2000

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)

/** Lines on standard error, now and then and at the end of what took long enough to have had one. */
const reporting = (source: string) => {
  let last = performance.now()
  let told = false
  return (done: number, total: number) =>
    Effect.sync(() => {
      const now = performance.now()
      if (done === total ? !told : now - last < PAUSE) return
      last = now
      told = true
      process.stderr.write(`${source}: ${megabytes(done)} of ${megabytes(total)} MB\n`)
    })
}

export class Remote extends Context.Service<
  Remote,
  {
    /** @param lock the study's lock file; `frozen` refuses what it does not pin */
    readonly files: (lock: { readonly study: string; readonly frozen: boolean }) => Stage.Locate["remote"]
  }
>()("assay/cli/Remote") {
  /** Nothing is loaded before something is asked for. */
  static readonly layer = Layer.effect(
    Remote,
    Effect.map(Store, (store) => ({
      files:
        ({ frozen, study }) =>
        (text, part) =>
          Effect.gen(function* () {
            const [Source, Lock, { Hub }] = yield* Effect.promise(() =>
              Promise.all([import("../hub/Source.ts"), import("../hub/Lock.ts"), import("../hub/Hub.ts")]),
            )
            const options = {
              lock: Lock.fileOf(study),
              frozen,
              onProgress: reporting(text),
              onNote: (note: string) => Effect.sync(() => void process.stderr.write(`${note}\n`)),
            }
            const fetched =
              part["split"] === undefined
                ? Source.model(text, options)
                : Source.data(text, { config: part["config"], split: part["split"] }, options)
            // The store remembers digests of files that have not changed: weights are not hashed at every run.
            return (yield* Effect.provide(fetched, Hub.layer({ sha256: store.fileDigest }))).files
          }).pipe(Effect.mapError(({ message }) => new Problem({ path: [], reason: message }))),
    })),
  )
}
