/** The artifact `load` and `quantize` give and everything else reads: a checkpoint as data, bytes by reference. */
import * as Schema from "effect/Schema"
import * as Artifact from "../src/engine/Artifact.ts"
import { TOKENIZER_ROLES } from "../src/data/Checkpoint.ts"
import { DTYPES } from "../src/math/Elements.ts"
import type { Outline as FamilyOutline } from "../src/models/Family.ts"

const Counts = Schema.Array(Schema.Int)
/** See `math/Transform.ts`. */
const Transform = Schema.Union([
  Schema.Struct({ kind: Schema.Literal("strided"), shape: Counts, strides: Counts }),
  Schema.Struct({ kind: Schema.Literal("transpose"), columns: Schema.Int }),
  Schema.Struct({ kind: Schema.Literal("unpermute"), heads: Schema.Int }),
  Schema.Struct({ kind: Schema.Literal("regroup"), groups: Schema.Int, parts: Counts }),
  Schema.Struct({ kind: Schema.Literal("add"), value: Schema.Finite }),
  Schema.Struct({ kind: Schema.Literal("logNegated") }),
])

/** A tensor as the checkpoint stores it: raw little-endian elements or blocks, row-major but for the transforms. */
export const Plain = Schema.Struct({
  dtype: Schema.Literals(DTYPES),
  shape: Schema.Array(Schema.Int),
  /** What makes the stored values those of the tensor, in this order; none where they are. */
  transforms: Schema.optionalKey(Schema.Array(Transform)),
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

/** A fake-quantizer to be placed in the graph: by site, e.g. `3.self_attn.q_proj` (activations), `3` (K and V), `3.ssm`. */
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
    /** The files that make it, by role (`data/Tokenizer.ts`). */
    files: Schema.Record(Schema.Literals(TOKENIZER_ROLES), Schema.optionalKey(Artifact.Blob)),
    bos: Schema.NullOr(Schema.Int),
    eos: Schema.Array(Schema.Int),
    /** What it puts before a text. */
    prefix: Schema.Array(Schema.Int),
  }),
  /** How conversations are written: templates by name, and the special tokens that they may print. */
  chat: Schema.Struct({
    templates: Schema.Record(Schema.String, Schema.String),
    special: Schema.Record(Schema.String, Schema.String),
  }),
  tensors: Schema.Record(Schema.String, Tensor),
  activations: Placed,
  kv: Placed,
  state: Placed,
  coverage: Schema.Array(Coverage),
})
export type Value = typeof Value.Type

/** What the plan knows of a model before it is loaded. */
export interface Outline {
  readonly family: string
  readonly outline: FamilyOutline
  /** Chat templates by name. */
  readonly templates: { readonly [name: string]: string }
}

export const Model = Artifact.make<"model", Value, Outline>("model", Value)
