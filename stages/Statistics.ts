/** The artifact `calibrate` gives: what each linear's input and each layer's K and V looked like on real text. */
import * as Schema from "effect/Schema"
import * as Artifact from "../src/engine/Artifact.ts"

export const Site = Schema.Struct({
  /** 0 for an expert that no token was routed to: then its figures are 0 and it has no vectors. */
  tokens: Schema.Int,
  /** Per tensor: largest magnitude, standard deviation, and kurtosis E[((x-mu)/sigma)^4]. */
  absmax: Schema.Finite,
  std: Schema.Finite,
  kurtosis: Schema.Finite,
  min: Schema.Finite,
  max: Schema.Finite,
  channels: Schema.Int,
  /** Little-endian float32 vectors, one value per channel: those that were asked for. */
  perChannel: Schema.Struct({
    min: Schema.optionalKey(Artifact.Blob),
    max: Schema.optionalKey(Artifact.Blob),
    absmax: Schema.optionalKey(Artifact.Blob),
    mean: Schema.optionalKey(Artifact.Blob),
    meanSquare: Schema.optionalKey(Artifact.Blob),
  }),
  /** Second moments X^T X, [channels, channels] float32, when asked for. */
  gram: Schema.optionalKey(Artifact.Blob),
})
export const Value = Schema.Struct({
  family: Schema.String,
  collected: Schema.Array(Schema.String),
  /** By site: `0.self_attn.q_proj` (a linear's input), `0.key`, `0.value` (channel = head x head_dim). */
  sites: Schema.Record(Schema.String, Site),
})
export type Value = typeof Value.Type

export interface Outline {
  readonly collected: ReadonlyArray<string>
}
export const Statistics = Artifact.make<"statistics", Value, Outline>("statistics", Value)
