/** Where a task's data is: one file, or those of a split on the hub, whose rows follow each other. */
import * as Effect from "effect/Effect"
import * as Items from "../src/data/Items.ts"
import { Problem } from "../src/engine/Problem.ts"
import type { Locate, Sources } from "../src/engine/Stage.ts"
import type { Common } from "../src/tasks/Task.ts"

/** The files by slot: `data`, or `data.0000`, `data.0001`, … in the order of their rows. */
export const sources = ({ config, source, split }: Common["data"], locate: Locate) =>
  Effect.gen(function* () {
    const bad = (reason: string) => new Problem({ path: [], reason })
    if (!source.startsWith("hub-data:")) {
      if (config !== undefined || split !== undefined) {
        return yield* bad(`'${source}' is a file; config and split are for hub-data:`)
      }
      return { data: yield* locate.resolve(source) }
    }
    if (split === undefined) return yield* bad(`'${source}' needs a split: train, test, …`)
    const files = yield* locate.remote(source, { split, ...(config !== undefined && { config }) })
    return Object.fromEntries([...files.values()].map((path, i) => [`data.${String(i).padStart(4, "0")}`, path]))
  })

/** The rows of all files, or the first `limit`. */
export const read = Effect.fnUntraced(function* (files: Sources, limit: number | undefined) {
  const slots = Object.keys(files).filter((slot) => /^data(\.\d+)?$/.test(slot))
  const items: Array<Items.Item> = []
  for (const slot of slots.toSorted()) {
    const rest = limit === undefined ? undefined : limit - items.length
    if (rest === 0) break
    // One by one: as arguments of one call, many rows would overflow the stack.
    for (const item of yield* Items.read(files[slot]!.path, rest)) items.push(item)
  }
  return items
})
