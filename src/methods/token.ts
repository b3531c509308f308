/**
 * The KV cache as it grows: each K and V vector gets a scale and zero point per token and head (or per group of
 * channels inside the head), so that a token's entry is final once written. The KV quantizer of Li et al. 2024.
 * Labels: kv4, kv4-g16, kv4-k8 (keys in 8 bits, values in 4), kv4-v2, kv8-sym, kv4-g16-compat; -pre for keys before rotary positions: kv4-pre.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Method from "./Method.ts"
import * as Setting from "./Setting.ts"

const Bits = Setting.bits(2)

export default Method.kv({
  description: "keys and values by a scale per token and head, as they enter the cache",
  version: 1,
  params: {
    bits: Bits,
    /** Where keys or values differ from `bits`. */
    keys: Schema.optionalKey(Bits),
    values: Schema.optionalKey(Bits),
    /** Channels of a head that share a scale. */
    group: Schema.Union([Setting.groupSize, Schema.Literal("head")]).pipe(
      Schema.withDecodingDefaultKey(Effect.succeed("head" as const)),
    ),
    symmetric: Setting.symmetric,
    range: Setting.range,
    point: Setting.point,
  },
  wants: [],
  label: ({ bits, keys, values, group, point, ...grid }) =>
    [
      `kv${bits}`,
      keys === undefined ? "" : `-k${keys}`,
      values === undefined ? "" : `-v${values}`,
      group === "head" ? "" : `-g${group}`,
      Setting.pointSuffix(point),
      Setting.suffix(grid),
    ].join(""),
  parse: (label) => {
    const form = /^kv([2-8])(?:-k([2-8]))?(?:-v([2-8]))?(?:-g([1-9]\d{0,5}))?(-pre)?(-.*)?$/
    const [, bits, keys, values, group, pre, end] = form.exec(label) ?? []
    const grid = Setting.parseSuffix(end ?? "")
    if (bits === undefined || grid === undefined) return undefined
    return {
      bits: Number(bits),
      ...(keys === undefined ? {} : { keys: Number(keys) }),
      ...(values === undefined ? {} : { values: Number(values) }),
      group: group === undefined ? ("head" as const) : Number(group),
      ...grid,
      point: pre === undefined ? ("after-rope" as const) : ("before-rope" as const),
    }
  },
  plan: ({ group }, headSize) => Method.checkGroup("KV cache", headSize, group === "head" ? headSize : group),
  point: ({ point }) => point,
  quantizer: ({ bits, keys, values, group, symmetric, range, point }, headSize) => ({
    keys: { bits: keys ?? bits, symmetric, range },
    values: { bits: values ?? bits, symmetric, range },
    group: group === "head" ? headSize : group,
    point,
  }),
})
