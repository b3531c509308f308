/**
 * Keys by one scale and zero point per channel of each head, taken from calibration, since the channels of keys differ far
 * more than their tokens do (Liu et al. 2024, KIVI; Hooper et al. 2024, KVQuant, which quantizes them before rotary
 * positions mix the channels); values by a scale per token and head, as they enter the cache.
 * Labels: kv4-channel, kv4-channel-pre, kv4-channel-k8, kv4-channel-v2-sym.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { scaleAndZero } from "../math/Affine.ts"
import * as Method from "./Method.ts"
import * as Setting from "./Setting.ts"

const Bits = Setting.bits(2)

export default Method.kv({
  description: "keys by a scale per channel, taken from calibration; values by one per token and head",
  version: 1,
  params: {
    bits: Bits,
    /** Where keys or values differ from `bits`. */
    keys: Schema.optionalKey(Bits),
    values: Schema.optionalKey(Bits),
    symmetric: Setting.symmetric,
    range: Setting.range,
    point: Setting.point,
  },
  wants: ["min", "max"],
  label: ({ bits, keys, values, point, ...grid }) =>
    [
      `kv${bits}-channel`,
      keys === undefined ? "" : `-k${keys}`,
      values === undefined ? "" : `-v${values}`,
      Setting.pointSuffix(point),
      Setting.suffix(grid),
    ].join(""),
  parse: (label) => {
    const form = /^kv([2-8])-channel(?:-k([2-8]))?(?:-v([2-8]))?(-pre)?(-.*)?$/
    const [, bits, keys, values, pre, end] = form.exec(label) ?? []
    const grid = Setting.parseSuffix(end ?? "")
    if (bits === undefined || grid === undefined) return undefined
    return {
      bits: Number(bits),
      ...(keys === undefined ? {} : { keys: Number(keys) }),
      ...(values === undefined ? {} : { values: Number(values) }),
      ...grid,
      point: pre === undefined ? ("after-rope" as const) : ("before-rope" as const),
    }
  },
  plan: () => Effect.void,
  point: ({ point }) => point,
  quantizer: ({ bits, keys: own, values, symmetric, range, point }, headSize, { max, min }) => {
    const keys = { bits: own ?? bits, symmetric, range }
    const grids = Array.from(min, (low, channel) => scaleAndZero(low, max[channel]!, keys))
    return {
      keys,
      values: { bits: values ?? bits, symmetric, range },
      group: headSize,
      point,
      channels: {
        scales: grids.map(({ scale }) => scale),
        // The grid's codes are offset binary, the graph's are signed: there a symmetric zero point is 0.
        zeros: grids.map(({ zero }) => (symmetric ? 0 : zero)),
      },
    }
  },
})
