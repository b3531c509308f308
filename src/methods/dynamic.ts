/**
 * Dynamic activations: the input of a linear gets one scale and zero point per token, over its whole hidden vector, as
 * it passes; needs no data. The activation quantizer of Li et al. 2024. Labels: a8, a8-sym, a4-compat.
 */
import * as Method from "./Method.ts"
import * as Setting from "./Setting.ts"

export default Method.activations({
  description: "activations by a scale per token, taken from the token itself",
  version: 1,
  params: { bits: Setting.bits(2), symmetric: Setting.symmetric, range: Setting.range },
  wants: [],
  label: ({ bits, ...grid }) => `a${bits}${Setting.suffix(grid)}`,
  parse: (label) => {
    const [, bits, end] = /^a([2-8])(-.*)?$/.exec(label) ?? []
    const grid = Setting.parseSuffix(end ?? "")
    return bits === undefined || grid === undefined ? undefined : { bits: Number(bits), ...grid }
  },
  quantizer: (params) => ({ kind: "dynamic", ...params }),
})
