/**
 * Rotary settings as config.json spells them, old (`rope_theta`, `rope_scaling`) or new (`rope_parameters`), for every
 * family that has them. Follows `modeling_rope_utils.py` of Hugging Face transformers.
 */
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
import { type HeadKeys, heads, Positive } from "./Config.ts"

/** Of a head. */
export const Part = Schema.Finite.check(Schema.isGreaterThan(0), Schema.isLessThanOrEqualTo(1))

const Settings = Schema.Struct({
  rope_theta: Schema.optionalKey(Schema.Finite),
  rope_type: Schema.optionalKey(Schema.String),
  type: Schema.optionalKey(Schema.String),
  factor: Schema.optionalKey(Schema.Finite),
  low_freq_factor: Schema.optionalKey(Schema.Finite),
  high_freq_factor: Schema.optionalKey(Schema.Finite),
  original_max_position_embeddings: Schema.optionalKey(Positive),
  partial_rotary_factor: Schema.optionalKey(Part),
  attention_factor: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
  beta_fast: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
  beta_slow: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
  mscale: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
  mscale_all_dim: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
  truncate: Schema.optionalKey(Schema.Boolean),
  short_factor: Schema.optionalKey(Schema.Array(Schema.Finite)),
  long_factor: Schema.optionalKey(Schema.Array(Schema.Finite)),
})

/** To be spread into the schema of a config. */
export const fields = {
  rope_theta: Schema.optionalKey(Schema.Finite),
  partial_rotary_factor: Schema.optionalKey(Part),
  /** Beside the settings it goes before the one within them. */
  original_max_position_embeddings: Schema.optionalKey(Positive),
  /** What some configs call the length after scaling. */
  max_sequence_length: Schema.optionalKey(Schema.NullOr(Positive)),
  /** The older spelling. */
  rope_scaling: Schema.optionalKey(Schema.NullOr(Settings)),
  /** The newer spelling, which holds theta too. */
  rope_parameters: Schema.optionalKey(Schema.NullOr(Settings)),
}
export interface Config {
  readonly rope_theta?: number
  readonly partial_rotary_factor?: number
  readonly original_max_position_embeddings?: number
  readonly max_sequence_length?: number | null
  /** LongChat's. */
  readonly rope_condense_ratio?: number
  readonly rope_scaling?: typeof Settings.Type | null
  readonly rope_parameters?: typeof Settings.Type | null
}

const settingsOf = (c: Config): typeof Settings.Type => c.rope_parameters ?? c.rope_scaling ?? {}
/** Phi-3's first configs call longrope `su`, and its code takes `yarn` for it too. */
const typeOf = (c: Config) => {
  const { long_factor, rope_type, type } = settingsOf(c)
  const written = rope_type ?? type ?? "default"
  return written === "su" || (written === "yarn" && long_factor !== undefined) ? "longrope" : written
}

const NEEDS: { readonly [type: string]: ReadonlyArray<keyof typeof Settings.Type> } = {
  default: [],
  linear: ["factor"],
  dynamic: ["factor"],
  llama3: ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
  yarn: ["factor"],
  longrope: ["short_factor", "long_factor"],
}

/** What is wrong with the settings, if anything: the type is not known or lacks what it needs. */
export const problem = (c: Config): string | undefined => {
  const type = typeOf(c)
  const needs = NEEDS[type]
  if (needs === undefined) return `unknown rope type '${type}'; known: ${Object.keys(NEEDS).join(", ")}`
  const missing = needs.filter((key) => settingsOf(c)[key] === undefined)
  return missing.length === 0 ? undefined : `rope type '${type}' needs ${missing.join(", ")}`
}
/** The same, as a check of the whole config. */
export const check = Schema.makeFilter(problem)

/**
 * What is wrong with turning `dim` channels of a head, for a check of the family's: the number is odd, or the divisors
 * of longrope are not as many as the pairs.
 */
export const misfit = (c: Config, dim: number): string | undefined => {
  if (dim < 2) return `rotary positions turn pairs of channels, and ${dim} of a head's are to be turned`
  if (dim % 2 === 1) return `rotary positions turn pairs of channels, and the turned head size ${dim} is odd`
  if (typeOf(c) !== "longrope") return undefined
  const settings = settingsOf(c)
  for (const key of ["short_factor", "long_factor"] as const) {
    const given = settings[key]?.length ?? dim / 2
    if (given !== dim / 2) return `${key} has ${given} values for the ${dim / 2} pairs of channels that are turned`
  }
  return undefined
}
/** The same, as a check of the whole config, of families that turn heads as a whole. */
export const wholeHeads = Schema.makeFilter((c: Config & HeadKeys) => misfit(c, heads(c).dim))

/** How yarn scales cos and sin: 0.1 ln(factor) + 1, or a quotient of two such where both mscales are given. */
const yarnScale = (factor: number, { attention_factor, mscale, mscale_all_dim }: typeof Settings.Type): number => {
  const sharper = (by: number) => (factor <= 1 ? 1 : 0.1 * by * Math.log(factor) + 1)
  // A scale of 0 is none at all.
  return attention_factor ?? (mscale && mscale_all_dim ? sharper(mscale) / sharper(mscale_all_dim) : sharper(1))
}

/** @param context the config's longest sequence, where the settings name no other. */
export const rope = (c: Config, context: number, theta = 10_000): Rope.Rope => {
  const settings = settingsOf(c)
  const base = settings.rope_theta ?? c.rope_theta ?? theta
  const factor = settings.factor ?? 1
  const originalContext = c.original_max_position_embeddings ?? settings.original_max_position_embeddings ?? context
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
        originalContext,
      }
    case "yarn":
      return {
        type: "yarn",
        theta: base,
        factor,
        originalContext,
        betaFast: settings.beta_fast || 32,
        betaSlow: settings.beta_slow || 1,
        truncate: settings.truncate ?? true,
        scale: yarnScale(factor, settings),
      }
    case "longrope": {
      const stretch = settings.factor ?? context / originalContext
      const sharper = stretch <= 1 ? 1 : Math.sqrt(1 + Math.log(stretch) / Math.log(originalContext))
      return {
        type: "longrope",
        theta: base,
        short: settings.short_factor!,
        long: settings.long_factor!,
        originalContext,
        scale: settings.attention_factor ?? sharper,
      }
    }
    default:
      return { type: "default", theta: base }
  }
}

/**
 * Longest sequence the positions are made for, where the config says `max` positions: in some configs that is the length
 * before scaling (Vicuna 16k), in some the length after it (LongChat saved again), and no key tells which. The largest
 * that the config's own keys make is taken: the limit only guards against positions that the model was never meant for,
 * and FastChat's `get_context_length` multiplies too. Tables are made from `max` itself.
 */
export const context = (c: Config, max: number): number => {
  const settings = rope(c, max)
  return Math.floor(
    Math.max(max, scaled(settings, max), c.max_sequence_length ?? 0, (c.rope_condense_ratio ?? 1) * max),
  )
}

const scaled = (settings: Rope.Rope, max: number): number => {
  switch (settings.type) {
    case "linear":
    case "dynamic":
      return settings.factor * max
    case "yarn":
      return settings.factor * settings.originalContext
    default:
      return max
  }
}

/** Leading channels of a head that are turned: `int(dim * partial_rotary_factor)`. */
export const rotaryDim = (c: Config, dim: number, factor = 1): number =>
  Math.trunc(dim * (settingsOf(c).partial_rotary_factor ?? c.partial_rotary_factor ?? factor))

/** Which tables a sequence of this length needs; see `Family.tableKey`. */
export const tableKey = (c: Config, context: number, length: number): number => {
  const settings = rope(c, context)
  switch (settings.type) {
    case "dynamic":
      return length > settings.context ? length : 0
    case "longrope":
      return length > settings.originalContext ? 1 : 0
    default:
      return 0
  }
}
