/** `node fetch.ts <endpoint> <cache> <name>`: fetches a model's files, prints the folder. `started` once bytes come. */
import * as Effect from "effect/Effect"
import { Hub } from "../../../src/hub/Hub.ts"
import { patience } from "../../../src/hub/Settings.ts"

const [endpoint, cache, name] = process.argv.slice(2) as [string, string, string]
const settings = { endpoint, cache, token: undefined, offline: false, downloads: 4, patience }
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
