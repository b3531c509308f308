/** The parameters that every method on an integer grid shares, and how their labels end: `-sym`, `-compat`. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Grid, Point } from "./Method.ts"

/** Bit widths from `minimum` to 8. */
export const bits = (minimum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum: 8 }))

export const symmetric = Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false)))

/** Of an asymmetric grid. `fixed`: the range always contains 0. `compat`: it may not, as in the paper's code. */
export const range = Schema.Literals(["fixed", "compat"]).pipe(
  Schema.withDecodingDefaultKey(Effect.succeed("fixed" as const)),
)

/** Contiguous entries that share a scale: at most six digits, as in labels. */
export const groupSize = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 999_999 }))

/** Where keys are quantized: after rotary positions, as in the paper's code, unless said otherwise. */
export const point = Point.pipe(Schema.withDecodingDefaultKey(Effect.succeed("after-rope" as const)))
/** Labels say `-pre` for before rotary positions. */
export const pointSuffix = (at: typeof Point.Type): string => (at === "before-rope" ? "-pre" : "")

/** How a label ends. */
export const suffix = (grid: Omit<Grid, "bits">): string =>
  (grid.symmetric ? "-sym" : "") + (grid.range === "compat" ? "-compat" : "")

/** What a label's end says: the text that followed everything else, or `undefined` where it is no such end. */
export const parseSuffix = (text: string): Omit<Grid, "bits"> | undefined => {
  const end = /^(-sym)?(-compat)?$/.exec(text)
  return end ? { symmetric: end[1] !== undefined, range: end[2] === undefined ? "fixed" : "compat" } : undefined
}
