/** The artifact `evaluate` gives: every metric with its n and its uncertainty, and the per-item records behind it. */
import * as Schema from "effect/Schema"
import * as Artifact from "../src/engine/Artifact.ts"

export const Metric = Schema.Struct({
  /** Standard name: `perplexity`, `acc`, `acc_norm`, `exact_match`, `kl_mean`, `top1_agreement`, `flips_to_wrong` … */
  name: Schema.String,
  value: Schema.Finite,
  /** Items (tokens, questions) the value is computed over. */
  n: Schema.Int,
  /** Standard error of the value; absent where an interval is given instead. */
  stderr: Schema.optionalKey(Schema.Finite),
  /** 95 % interval, [low, high]. */
  interval: Schema.optionalKey(Schema.Tuple([Schema.Finite, Schema.Finite])),
  /** Value of the task's grouping field ("lines=8"); absent for the whole task. */
  group: Schema.optionalKey(Schema.String),
  better: Schema.Literals(["lower", "higher", "neither"]),
  /** What guessing would score, where the task says so: retention is (value - chance) / (baseline - chance). */
  chance: Schema.optionalKey(Schema.Finite),
  /** Is this what the task is usually quoted by? Tables show primary metrics unless told otherwise. */
  primary: Schema.Boolean,
  /** Where its numbers per item are among the `samples`: the first, and how many. */
  samples: Schema.optionalKey(Schema.Tuple([Schema.Int, Schema.Int])),
})
export type Metric = typeof Metric.Type

export const Value = Schema.Struct({
  task: Schema.String,
  kind: Schema.String,
  metrics: Schema.Array(Metric),
  /** Digest of what was asked: cells of equal items can be compared item by item. */
  items: Schema.String,
  /** One JSON object per item, one item per line. */
  records: Artifact.Blob,
  /** Float64: what the metrics are made of. */
  samples: Artifact.Blob,
  /** Bits per quantizable weight, for the table. */
  effectiveBits: Schema.Finite,
})
export type Value = typeof Value.Type

/** Nothing is known of scores before they are computed but the task's name. */
export interface Outline {
  readonly task: string
}

export const Scores = Artifact.make<"scores", Value, Outline>("scores", Value)
