/**
 * Static activations: one scale and zero point for all tokens and channels of a linear's input, from the smallest and
 * largest value that calibration saw there. Labels: a8-static, a8-static-sym, a8-static-compat.
 */
import { scaleAndZero } from "../math/Affine.ts"
import * as Method from "./Method.ts"
import * as Setting from "./Setting.ts"

export default Method.activations({
  description: "activations by one scale per linear, taken from calibration",
  version: 1,
  params: { bits: Setting.bits(2), symmetric: Setting.symmetric, range: Setting.range },
  wants: ["min", "max"],
  label: ({ bits, ...grid }) => `a${bits}-static${Setting.suffix(grid)}`,
  parse: (label) => {
    const [, bits, end] = /^a([2-8])-static(-.*)?$/.exec(label) ?? []
    const grid = Setting.parseSuffix(end ?? "")
    return bits === undefined || grid === undefined ? undefined : { bits: Number(bits), ...grid }
  },
  quantizer: (params, { min, max }) => {
    const low = min.reduce((a, b) => Math.min(a, b))
    const high = max.reduce((a, b) => Math.max(a, b))
    const { scale, zero } = scaleAndZero(low, high, params)
    // The grid's codes are offset binary, the graph's are signed: there a symmetric zero point is 0.
    return { kind: "static", ...params, scale, zero: params.symmetric ? 0 : zero }
  },
})
