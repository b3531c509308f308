/**
 * Rotary settings as config.json spells them, old (`rope_theta`, `rope_scaling`) or new (`rope_parameters`), for every
 * family that has them. Follows `modeling_rope_utils.py` of Hugging Face transformers.
 */
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"

const Positive = Schema.Int.check(Schema.isGreaterThan(0))

const Settings = Schema.Struct({
  rope_theta: Schema.optionalKey(Schema.Finite),
  rope_type: Schema.optionalKey(Schema.String),
  type: Schema.optionalKey(Schema.String),
  factor: Schema.optionalKey(Schema.Finite),
  low_freq_factor: Schema.optionalKey(Schema.Finite),
  high_freq_factor: Schema.optionalKey(Schema.Finite),
  original_max_position_embeddings: Schema.optionalKey(Positive),
  partial_rotary_factor: Schema.optionalKey(Schema.Finite),
})

/** To be spread into the schema of a config. */
export const fields = {
  rope_theta: Schema.optionalKey(Schema.Finite),
  partial_rotary_factor: Schema.optionalKey(Schema.Finite),
  /** The older spelling. */
  rope_scaling: Schema.optionalKey(Schema.NullOr(Settings)),
  /** The newer spelling, which holds theta too. */
  rope_parameters: Schema.optionalKey(Schema.NullOr(Settings)),
}
interface Config {
  readonly rope_theta?: number
  readonly partial_rotary_factor?: number
  readonly rope_scaling?: typeof Settings.Type | null
  readonly rope_parameters?: typeof Settings.Type | null
}

const settingsOf = (c: Config): typeof Settings.Type => c.rope_parameters ?? c.rope_scaling ?? {}
const typeOf = (c: Config) => settingsOf(c).rope_type ?? settingsOf(c).type ?? "default"

const NEEDS: { readonly [type: string]: ReadonlyArray<keyof typeof Settings.Type> } = {
  default: [],
  linear: ["factor"],
  dynamic: ["factor"],
  llama3: ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
}

/** A check of the whole config: the type is known and has what it needs. */
export const check = Schema.makeFilter((c: Config) => {
  const type = typeOf(c)
  const needs = NEEDS[type]
  if (needs === undefined) return `unknown rope type '${type}'; known: ${Object.keys(NEEDS).join(", ")}`
  const missing = needs.filter((key) => settingsOf(c)[key] === undefined)
  return missing.length === 0 ? undefined : `rope type '${type}' needs ${missing.join(", ")}`
})

/** @param context the config's longest sequence, where the settings name no other. */
export const rope = (c: Config, context: number, theta = 10_000): Rope.Rope => {
  const settings = settingsOf(c)
  const base = settings.rope_theta ?? c.rope_theta ?? theta
  const factor = settings.factor ?? 1
  switch (typeOf(c)) {
    case "linear":
      return { type: "linear", theta: base, factor }
    case "dynamic":
      return { type: "dynamic", theta: base, factor, context }
    case "llama3":
      return {
        type: "llama3",
        theta: base,
        factor,
        lowFrequencyFactor: settings.low_freq_factor!,
        highFrequencyFactor: settings.high_freq_factor!,
        originalContext: settings.original_max_position_embeddings ?? context,
      }
    default:
      return { type: "default", theta: base }
  }
}

/** Leading channels of a head that are turned: `int(dim * partial_rotary_factor)`. */
export const rotaryDim = (c: Config, dim: number, factor = 1): number =>
  Math.trunc(dim * (settingsOf(c).partial_rotary_factor ?? c.partial_rotary_factor ?? factor))

/** Do the tables change with the length of the sequence? */
export const dependsOnLength = (c: Config, context: number, length: number): boolean =>
  rope(c, context).type === "dynamic" && length > context
