/** What `tests/reference/perplexity.py` measured: a file of perplexities by setting. */
import { readFileSync } from "node:fs"

export interface Golden {
  readonly text: { readonly start: number; readonly characters: number; readonly sha256: string }
  readonly settings: {
    readonly [name: string]: {
      readonly perplexity: number
      /** With products and norms summed in float64. */
      readonly perplexity_exact_products: number
      readonly tokens: number
      readonly precision: Precision
    }
  }
  /** By window, BOS first. */
  readonly tokens: ReadonlyArray<ReadonlyArray<number>>
}
interface Precision {
  readonly weight_bits: number | null
  readonly weight_group: number | null
  readonly activation_bits: number | null
  readonly kv_bits: number | null
  readonly kv_group: number | null
  readonly range: "compat" | "fixed"
}

export const read = (file: string | URL): Golden => JSON.parse(readFileSync(file, "utf8"))

/** The parameters of `quantize` that mean the same, as YAML. */
export const settings = ({
  activation_bits: a,
  kv_bits: kv,
  kv_group,
  range,
  weight_bits: w,
  weight_group,
}: Precision): string => {
  const end = range === "compat" ? "-compat" : ""
  const weights = w === null ? "none" : `w${w}-${weight_group === null ? "channel" : `g${weight_group}`}${end}`
  const cache = kv === null ? "none" : `kv${kv}${kv_group === null ? "" : `-g${kv_group}`}${end}`
  return `weights: ${weights}, activations: ${a === null ? "none" : `a${a}${end}`}, kv: ${cache}`
}
