/**
 * Checkpoints of several files with an index, `{ "weight_map": { "<tensor>": "<file>", … } }`. Index and files must
 * name the same tensors: nothing is skipped, nothing is in two places.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Json from "./Json.ts"
import { attempt, BadFile, BadTensor, type Unreadable } from "./TensorFile.ts"

/** A file beside the one that names it, on any operating system. */
const isPlainName = (u: unknown): u is string =>
  typeof u === "string" && u !== "" && u !== "." && u !== ".." && !/[/\\\0]/.test(u)

/** The catalog of all files that an index names; they lie beside it. @param readOne the catalog of one such file */
export const readSharded = <E, Err, R>(
  index: string,
  readOne: (file: string) => Effect.Effect<ReadonlyMap<string, E>, Err, R>,
): Effect.Effect<ReadonlyMap<string, E>, Unreadable | BadFile | BadTensor | Err, R> =>
  Effect.gen(function* () {
    const parsed = Json.parse(yield* attempt(index, () => Fs.readFileSync(index, "utf8")))
    if ("problem" in parsed) return yield* new BadFile({ file: index, reason: parsed.problem })
    const map = Json.isRecord(parsed.value) ? parsed.value["weight_map"] : undefined
    if (!Json.isRecord(map))
      return yield* new BadFile({ file: index, reason: "has no weight_map from tensors to files" })
    const places = new Map(Object.entries(map))
    const shards = new Map<string, ReadonlyMap<string, E>>()
    for (const [tensor, shard] of places) {
      if (!isPlainName(shard)) {
        const reason = `is said to be in ${Json.shown(shard)}; expected the name of a file beside the index`
        return yield* new BadTensor({ file: index, tensor, reason })
      }
      if (!shards.has(shard)) shards.set(shard, yield* readOne(Path.join(Path.dirname(index), shard)))
      if (!shards.get(shard)!.has(tensor)) {
        return yield* new BadTensor({
          file: index,
          tensor,
          reason: `is said to be in ${shard}, which does not hold it`,
        })
      }
    }
    const catalog = new Map<string, E>()
    for (const [shard, entries] of shards) {
      for (const [tensor, entry] of entries) {
        if (places.get(tensor) !== shard) {
          const said = places.has(tensor) ? `says it is in ${places.get(tensor)}` : "does not name it"
          return yield* new BadTensor({ file: index, tensor, reason: `is in ${shard}, but the index ${said}` })
        }
        catalog.set(tensor, entry)
      }
    }
    return catalog
  })
