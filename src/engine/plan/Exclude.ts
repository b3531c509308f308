/** `exclude`: drops the cells that have all the mentioned values, on the stage's own axes or on inherited ones. */
import type { Value } from "../study/Document.ts"
import type { Entry } from "../study/Entry.ts"
import type { Origin } from "./Join.ts"
import { canonical } from "./Key.ts"
import { type Choice, written } from "./Matrix.ts"
import { suggest } from "../study/Nearest.ts"

export interface Exclude {
  readonly drops: (origins: ReadonlyArray<Origin>) => boolean
  /** To be asked when every cell has been through: which entries never dropped one. */
  readonly unused: () => ReadonlyArray<number>
}

const matches = (choice: Choice, raw: Value) =>
  choice.label === written(raw) || canonical(choice.raw) === canonical(raw)

/** `origins` are all that can occur in a cell of the stage; `shown` is how an axis is called in this study. */
export const make = (
  entry: Entry,
  origins: Iterable<Origin>,
  shown: (stage: string, axis: string) => string,
  mistake: (path: ReadonlyArray<string | number>, reason: string, part?: "key" | "value") => void,
): Exclude => {
  if (entry.exclude.length === 0) return { drops: () => false, unused: () => [] }
  const axes = new Map<string, Set<Choice>>()
  for (const { stage, choice } of origins) {
    // The stage's own axes go by their plain names, whatever they are called elsewhere.
    const name = stage === entry.name ? choice.axis : shown(stage, choice.axis)
    axes.set(name, (axes.get(name) ?? new Set()).add(choice))
  }

  const rows = entry.exclude.map((row, i) =>
    Object.entries(row).map(([axis, raw]): ReadonlySet<Choice> => {
      const choices = axes.get(axis)
      if (choices === undefined) {
        mistake(["exclude", i, axis], `no axis '${axis}' here; ${suggest(axis, axes.keys())}`, "key")
        return new Set()
      }
      const matched = new Set([...choices].filter((choice) => matches(choice, raw)))
      if (matched.size === 0) {
        const labels = new Set([...choices].map(({ label }) => label))
        mistake(["exclude", i, axis], `axis '${axis}' has no value '${written(raw)}'; ${suggest(written(raw), labels)}`)
      }
      return matched
    }),
  )
  // An entry that names nothing known has its mistake already.
  const used = new Set(rows.flatMap((row, i) => (row.some((matched) => matched.size === 0) ? [i] : [])))
  return {
    drops: (origins) => {
      let dropped = false
      rows.forEach((row, i) => {
        if (!row.every((matched) => origins.some(({ choice }) => matched.has(choice)))) return
        used.add(i)
        dropped = true
      })
      return dropped
    },
    unused: () => rows.flatMap((_, i) => (used.has(i) ? [] : [i])),
  }
}
