/** `assay cache stats|verify|gc|clear`: looks after the cache. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { bytes, count, duration } from "../engine/run/Quantities.ts"
import * as Command from "./Command.ts"
import * as Flags from "./Flags.ts"
import * as Product from "./Product.ts"

const maintenance = Effect.promise(() => import("../engine/store/Maintenance.ts"))

export const stats = Command.make({
  name: "cache stats",
  description: "Tell how much the cache holds",
  arguments: [],
  flags: { json: Flags.json, cache: Flags.cache },
  examples: [],
  run: Effect.fnUntraced(function* ({ cache, json }) {
    const stats = yield* (yield* maintenance).stats
    if (json) return yield* Console.log(JSON.stringify(stats, null, 2))
    const { blobs, documents, fileBytes, liveBytes, running, traces } = stats
    yield* Console.log(
      [
        Product.cache(cache),
        `${count(traces, "result")}, ${count(documents, "document")}, ${count(blobs, "blob")}`,
        `${bytes(liveBytes)} in use, ${bytes(fileBytes)} on disk`,
        ...(running.length > 0 ? [`running now: ${running.join(", ")}`] : []),
      ].join("\n"),
    )
  }),
})

export const verify = Command.make({
  name: "cache verify",
  description: "Read everything in the cache and check it against its digest",
  arguments: [],
  flags: {
    repair: { kind: "switch", description: "drop what is wrong; it is computed again when needed" },
    cache: Flags.cache,
  },
  examples: [],
  run: Effect.fnUntraced(function* ({ repair }) {
    const { checked, recomputable, wrong } = yield* (yield* maintenance).verify({ repair })
    for (const { name, reason, what } of wrong) yield* Console.log(`${what} ${name}: ${reason}`)
    const gone =
      recomputable.length === 0
        ? ""
        : `; ${count(recomputable.length, "result")} evicted, to be computed again when needed`
    yield* Console.log(
      `${count(checked, "record")} checked, ${wrong.length} wrong${repair && wrong.length > 0 ? " and dropped" : ""}${gone}`,
    )
    if (wrong.length > 0 && !repair) {
      const { CallError } = yield* Effect.promise(() => import("./CallError.ts"))
      return yield* new CallError({ reason: "assay cache verify --repair drops what is wrong" })
    }
  }),
})

const powers = { "": 0, k: 1, m: 2, g: 3, t: 4 } as const
/** `800MB`, `10 GB`, `2GiB` */
const parseSize = Effect.fnUntraced(function* (text: string) {
  const [, number, power, binary] = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?$/i.exec(text.trim()) ?? []
  if (number !== undefined)
    return Math.floor(Number(number) * (binary ? 1024 : 1000) ** powers[power!.toLowerCase() as keyof typeof powers])
  const { CallError } = yield* Effect.promise(() => import("./CallError.ts"))
  return yield* new CallError({ reason: `--max: '${text}' is not a size; write 10GB or 500MB` })
})

export const gc = Command.make({
  name: "cache gc",
  description: "Make room: evict what is cheapest to compute again per byte",
  arguments: [],
  flags: {
    max: { kind: "text", value: "size", description: "keep at most this much (10GB); otherwise only litter goes" },
    dryRun: { kind: "switch", description: "only tell what would go" },
    cache: Flags.cache,
  },
  examples: [["assay cache gc --max 10GB", "and what it would cost to compute again"]],
  run: Effect.fnUntraced(function* ({ dryRun, max }) {
    const maxBytes = max === undefined ? Number.MAX_SAFE_INTEGER : yield* parseSize(max)
    const { evicted, evictedBytes, fileBytes, liveBytes, note, rebuildSeconds } = yield* (yield* maintenance).gc({
      maxBytes,
      dryRun,
    })
    yield* Console.log(
      [
        `${count(evicted, "object")} of ${bytes(evictedBytes)} ${dryRun ? "would be " : ""}evicted; computing them again takes ${duration(rebuildSeconds)}`,
        `${bytes(liveBytes)} in use, ${bytes(fileBytes)} on disk`,
        ...(note === undefined ? [] : [note]),
      ].join("\n"),
    )
  }),
})

export const clear = Command.make({
  name: "cache clear",
  description: "Forget everything",
  arguments: [],
  flags: { cache: Flags.cache },
  examples: [],
  run: Effect.fnUntraced(function* ({ cache }) {
    const directory = Product.cache(cache)
    yield* (yield* maintenance).clear(directory)
    yield* Console.log(`${directory} is empty`)
  }),
})
