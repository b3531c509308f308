/** The smallest places at which two JSON values differ. */
import type { Json } from "effect/Schema"

export interface Difference {
  readonly path: ReadonlyArray<string | number>
  /** Absent where there is none on that side. */
  readonly before: Json | undefined
  readonly after: Json | undefined
}

const isRecord = (value: Json | undefined): value is { readonly [key: string]: Json } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Mappings by key, lists by position where they are equally long; in the order of `before`, then of `after`. */
export const differences = (
  before: Json | undefined,
  after: Json | undefined,
  path: Difference["path"] = [],
): ReadonlyArray<Difference> => {
  if (isRecord(before) && isRecord(after)) {
    const keys = new Set([...Object.keys(before), ...Object.keys(after)])
    return [...keys].flatMap((key) => differences(before[key], after[key], [...path, key]))
  }
  if (Array.isArray(before) && Array.isArray(after) && before.length === after.length)
    return before.flatMap((value, i) => differences(value, after[i], [...path, i]))
  return JSON.stringify(before) === JSON.stringify(after) ? [] : [{ path, before, after }]
}
