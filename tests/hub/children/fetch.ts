/**
 * `node fetch.ts <endpoint> <cache> <name>`: fetches a model's files, prints the folder. `started` once bytes come. The
 * proxy is the environment's, where a further argument says so.
 */
import * as Effect from "effect/Effect"
import { Hub } from "../../../src/hub/Hub.ts"
import { fromEnvironment, patience } from "../../../src/hub/Settings.ts"

const [endpoint, cache, name] = process.argv.slice(2) as [string, string, string]
const proxy = process.argv[5] === undefined ? undefined : (await Effect.runPromise(fromEnvironment)).proxy
const settings = { endpoint, cache, token: undefined, offline: false, proxy, downloads: 4, patience }
const reference = { kind: "model", name, revision: "main", file: undefined } as const
let started = false
const work = Effect.gen(function* () {
  const hub = yield* Hub
  const { commit, files } = yield* hub.resolve(reference)
  const folder = yield* hub.fetch(reference, commit, files, (done) =>
    Effect.sync(() => {
      if (done > 100_000 && !started) console.log("started")
      started ||= done > 100_000
    }),
  )
  console.log(folder)
})
await Effect.runPromise(Effect.provide(work, Hub.layerOf(settings)))
