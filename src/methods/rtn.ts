/**
 * Round to nearest: every weight goes to the closest point of its group's integer grid. It needs no data; the weight
 * quantizer of Li et al. 2024. Labels: w4-g64, w4-channel, w8-tensor, w4-g64-sym, w4-g64-compat.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import int from "../formats/int.ts"
import * as Method from "./Method.ts"
import * as Setting from "./Setting.ts"

export default Method.weights({
  description: "round to nearest, on an integer grid per group",
  version: 1,
  params: {
    bits: Setting.bits(1),
    /** What shares a scale: contiguous entries of a row, a row (output channel), or the whole tensor. */
    group: Schema.Union([Setting.groupSize, Schema.Literals(["channel", "tensor"])]).pipe(
      Schema.withDecodingDefaultKey(Effect.succeed(128)),
    ),
    symmetric: Setting.symmetric,
    range: Setting.range,
  },
  wants: [],
  label: ({ bits, group, ...grid }) =>
    `w${bits}-${typeof group === "number" ? `g${group}` : group}${Setting.suffix(grid)}`,
  parse: (label) => {
    const [, bits, size, whole, end] = /^w([1-8])-(?:g([1-9]\d{0,5})|(channel|tensor))(-.*)?$/.exec(label) ?? []
    const grid = Setting.parseSuffix(end ?? "")
    if (bits === undefined || grid === undefined) return undefined
    return { bits: Number(bits), group: size === undefined ? (whole as "channel" | "tensor") : Number(size), ...grid }
  },
  plan: Effect.fnUntraced(function* (params, { tensor, cols }) {
    if (params.symmetric && params.bits < 2) return yield* new Method.TooFewBits({ tensor, bits: params.bits })
    if (typeof params.group === "number") yield* Method.checkGroup(tensor, cols, params.group)
    return { format: "int", params: { ...params } }
  }),
  apply: (params, weights, shape) => int.encode(weights, shape, params),
})
