/** The artifact `load` and `quantize` give and everything else reads: a checkpoint as data, bytes by reference. */
import * as Schema from "effect/Schema"
import * as Artifact from "../src/engine/Artifact.ts"
import type { Outline as FamilyOutline } from "../src/models/Family.ts"

/** A tensor as the checkpoint stores it: raw little-endian elements, row-major. */
export const Plain = Schema.Struct({
  dtype: Schema.Literals(["F32", "F16", "BF16"]),
  shape: Schema.Array(Schema.Int),
  /** The matrix is stored as [columns, rows]. */
  transposed: Schema.optionalKey(Schema.Literal(true)),
  data: Artifact.Blob,
})
/** A quantized tensor, packed by its number format. `format` and `params` say how to decode it. */
export const Packed = Schema.Struct({
  format: Schema.String,
  params: Schema.Record(Schema.String, Schema.Json),
  shape: Schema.Array(Schema.Int),
  codes: Artifact.Blob,
  scales: Artifact.Blob,
  zeros: Artifact.Blob,
})
export const Tensor = Schema.Union([Plain, Packed])
export type Tensor = typeof Tensor.Type

/** Bytes a tensor takes in its file or in the cache. */
export const storedBytes = (tensor: Tensor): number =>
  "dtype" in tensor ? tensor.data.bytes : tensor.codes.bytes + tensor.scales.bytes + tensor.zeros.bytes

/** What quantization did to one tensor, or why it left it alone. */
export const Coverage = Schema.Struct({
  tensor: Schema.String,
  site: Schema.String,
  parameters: Schema.Int,
  /** Bits each weight occupies with scales, zero points and padding. */
  bits: Schema.Finite,
  /** Label of the setting (`w4-g64`), or the reason it was left alone. */
  setting: Schema.String,
  quantized: Schema.Boolean,
  error: Schema.optionalKey(
    Schema.Struct({ relativeMse: Schema.Finite, sqnr: Schema.NullOr(Schema.Finite), max: Schema.Finite }),
  ),
})

/** A fake-quantizer to be placed in the graph: by site, e.g. `3.self_attn.q_proj` (activations) or `3` (K and V). */
export const Placed = Schema.Record(Schema.String, Schema.Json)

export const Value = Schema.Struct({
  family: Schema.String,
  /**
   * Digests of the code that interprets this artifact, by file (`models/llama`, `formats/int`): when it changes, so
   * does the artifact, and what reads it is computed again.
   */
  code: Schema.Record(Schema.String, Artifact.Digest),
  config: Schema.Record(Schema.String, Schema.Json),
  tokenizer: Schema.Struct({
    file: Artifact.Blob,
    config: Schema.optionalKey(Artifact.Blob),
    bos: Schema.NullOr(Schema.Int),
    eos: Schema.Array(Schema.Int),
  }),
  tensors: Schema.Record(Schema.String, Tensor),
  activations: Placed,
  kv: Placed,
  coverage: Schema.Array(Coverage),
})
export type Value = typeof Value.Type

/** What the plan knows of a model before it is loaded. */
export interface Outline {
  readonly family: string
  readonly outline: FamilyOutline
}

export const Model = Artifact.make<"model", Value, Outline>("model", Value)
