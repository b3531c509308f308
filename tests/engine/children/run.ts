/** `node run.ts <directory> <key>`: a run that holds a key and does nothing until it is killed. */
import * as Effect from "effect/Effect"
import { writeSync } from "node:fs"
import { Store } from "../../../src/engine/store/Store.ts"

const [directory, key] = process.argv.slice(2) as [string, string]
const run = Effect.flatMap(Store, (store) =>
  store.withRun(
    { study: "held", holds: [key] },
    Effect.andThen(
      Effect.sync(() => writeSync(1, "running\n")),
      Effect.never,
    ),
  ),
)
// A timer keeps the process alive.
setInterval(() => {}, 1_000)
await Effect.runPromise(Effect.provide(run, Store.layer(directory)))
