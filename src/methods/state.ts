/**
 * The recurrent state of a state-space model (Mamba's h) as it is stored from each token to the next: every channel's
 * state gets a scale and zero point (or one for each group of its numbers), anew after every token. What a token gives
 * is read off the state before it is stored. Labels: s8, s4-g8, s8-sym, s4-g8-compat.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Method from "./Method.ts"
import * as Setting from "./Setting.ts"

export default Method.state({
  description: "recurrent states by a scale per channel, after every token",
  version: 1,
  params: {
    bits: Setting.bits(2),
    /** Numbers of a channel's state that share a scale. */
    group: Schema.Union([Setting.groupSize, Schema.Literal("channel")]).pipe(
      Schema.withDecodingDefaultKey(Effect.succeed("channel" as const)),
    ),
    symmetric: Setting.symmetric,
    range: Setting.range,
  },
  wants: [],
  label: ({ bits, group, ...grid }) => `s${bits}${group === "channel" ? "" : `-g${group}`}${Setting.suffix(grid)}`,
  parse: (label) => {
    const [, bits, group, end] = /^s([2-8])(?:-g([1-9]\d{0,5}))?(-.*)?$/.exec(label) ?? []
    const grid = Setting.parseSuffix(end ?? "")
    if (bits === undefined || grid === undefined) return undefined
    return { bits: Number(bits), group: group === undefined ? ("channel" as const) : Number(group), ...grid }
  },
  quantizer: ({ bits, group, range, symmetric }, size) => {
    const own = group === "channel" ? size : group
    return Effect.as(Method.checkGroup("recurrent state", size, own), { bits, symmetric, range, group: own })
  },
})
