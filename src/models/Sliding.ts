/** The sliding window of Qwen's upper layers as config.json spells it, old (`max_window_layers`) or new (`layer_types`). */
import * as Schema from "effect/Schema"
import { flag, Positive, withDefault } from "./Config.ts"

/** To be spread into the schema of a config. */
export const fields = {
  use_sliding_window: flag(false),
  sliding_window: withDefault(Schema.NullOr(Positive), 4096),
  /** Layers below it see all tokens. */
  max_window_layers: withDefault(Schema.Int, 28),
  /** The newer spelling. */
  layer_types: Schema.optionalKey(
    Schema.NullOr(Schema.Array(Schema.Literals(["full_attention", "sliding_attention"]))),
  ),
}
interface Config {
  readonly num_hidden_layers: number
  readonly use_sliding_window: boolean
  readonly sliding_window: number | null
  readonly max_window_layers: number
  readonly layer_types?: ReadonlyArray<"full_attention" | "sliding_attention"> | null
}

/** What the spellings have to agree on. */
export const checks = [
  Schema.makeFilter((c: Config) =>
    (c.layer_types?.length ?? c.num_hidden_layers) === c.num_hidden_layers
      ? undefined
      : `layer_types names ${c.layer_types?.length} layers; num_hidden_layers is ${c.num_hidden_layers}`,
  ),
  Schema.makeFilter((c: Config) =>
    !c.layer_types?.includes("sliding_attention") || (c.use_sliding_window && c.sliding_window !== null)
      ? undefined
      : "layer_types has sliding_attention, which needs use_sliding_window and sliding_window",
  ),
] as const

/** Tokens that a token sees in this layer, as an option of attention; none: all. */
export const window = (c: Config, layer: number): { readonly window?: number } => {
  const slides = c.layer_types == null ? layer >= c.max_window_layers : c.layer_types[layer] === "sliding_attention"
  return c.use_sliding_window && slides && c.sliding_window !== null ? { window: c.sliding_window } : {}
}
