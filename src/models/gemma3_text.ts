/**
 * Gemma 3, text (Gemma Team 2025): Gemma 2 without soft caps, with a norm on each head's queries and keys, five layers
 * in six seeing a window only, and rotary positions of two bases, one for the layers that slide and one for the others.
 * Follows `modeling_gemma3.py` of Hugging Face transformers.
 */
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
import type { Value } from "../onnx/Graph.ts"
import { evenGroups, flag, heads, number, oneOf, Positive, size, withDefault } from "./Config.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Rotary from "./Rotary.ts"

const Config = Schema.Struct({
  hidden_size: Positive,
  intermediate_size: Positive,
  num_hidden_layers: Positive,
  num_attention_heads: Positive,
  /** A wrong default here does not fit the shapes of queries and keys. */
  num_key_value_heads: size(4),
  head_dim: size(256),
  vocab_size: Positive,
  max_position_embeddings: size(131_072),
  rms_norm_eps: number(1e-6),
  hidden_activation: oneOf("gelu_pytorch_tanh"),
  query_pre_attn_scalar: number(256),
  sliding_window: withDefault(Schema.NullOr(Positive), 4096),
  /** By default every layer slides but each sixth (or each `sliding_window_pattern`-th). */
  layer_types: Schema.optionalKey(
    Schema.NullOr(Schema.Array(Schema.Literals(["sliding_attention", "full_attention"]))),
  ),
  sliding_window_pattern: size(6),
  /** Not read by the attention of Gemma 3. */
  attn_logit_softcapping: Schema.optionalKey(Schema.Null),
  final_logit_softcapping: withDefault(Schema.NullOr(Schema.Finite), null),
  attention_bias: flag(false),
  tie_word_embeddings: flag(true),
  rope_theta: Schema.optionalKey(Schema.Finite),
  rope_local_base_freq: Schema.optionalKey(Schema.Finite),
  /** The older spelling, of the layers that do not slide. */
  rope_scaling: Rotary.fields.rope_scaling,
  /** The newer spelling: settings by kind of layer. */
  rope_parameters: Schema.optionalKey(
    Schema.NullOr(
      Schema.Struct({
        full_attention: Rotary.fields.rope_parameters,
        sliding_attention: Rotary.fields.rope_parameters,
      }),
    ),
  ),
}).check(
  evenGroups,
  Schema.makeFilter((c) => Rotary.problem(turns(c, "full_attention")) ?? Rotary.problem(turns(c, "sliding_attention"))),
  Schema.makeFilter(
    (c) =>
      Rotary.misfit(turns(c, "full_attention"), c.head_dim) ?? Rotary.misfit(turns(c, "sliding_attention"), c.head_dim),
  ),
  Schema.makeFilter((c) =>
    c.layer_types == null || c.layer_types.length === c.num_hidden_layers
      ? undefined
      : `layer_types names ${c.layer_types.length} layers, num_hidden_layers is ${c.num_hidden_layers}`,
  ),
)
type Config = typeof Config.Type

type Kind = "sliding_attention" | "full_attention"
const kindOf = (c: Config, layer: number): Kind =>
  c.layer_types?.[layer] ?? ((layer + 1) % c.sliding_window_pattern === 0 ? "full_attention" : "sliding_attention")

/** The rotary settings of one kind of layer, as other families have them for all. */
const turns = (
  c: Pick<Config, "rope_parameters" | "rope_scaling" | "rope_theta" | "rope_local_base_freq">,
  kind: Kind,
) => ({
  rope_theta: kind === "full_attention" ? (c.rope_theta ?? 1_000_000) : (c.rope_local_base_freq ?? 10_000),
  rope_parameters: c.rope_parameters?.[kind] ?? (kind === "full_attention" ? (c.rope_scaling ?? null) : null),
})

export default Family.make<Config>({
  covers: "Gemma 3, text",
  config: Config,
  ...Decoder.frame,
  shape: (c) => ({
    layers: c.num_hidden_layers,
    hidden: c.hidden_size,
    vocabulary: c.vocab_size,
    memory: { kind: "keyValue", heads: heads(c) },
    // Already the length after scaling: the published 131072 goes with a factor of 8.
    context: c.max_position_embeddings,
  }),
  tables: (c, length) => {
    const of = (kind: Kind) => Rope.tables(Rotary.rope(turns(c, kind), c.max_position_embeddings), c.head_dim, length)
    const [full, sliding] = [of("full_attention"), of("sliding_attention")]
    return { cos: full.cos, sin: full.sin, "cos.sliding": sliding.cos, "sin.sliding": sliding.sin }
  },
  tableKey: (c, length) =>
    Math.max(
      ...(["full_attention", "sliding_attention"] as const).map((kind) =>
        Rotary.tableKey(turns(c, kind), c.max_position_embeddings, length),
      ),
    ),

  embed: (b, c, tokens) => b.scale(Decoder.embed(b, c, tokens), Math.sqrt(c.hidden_size)),

  block: (b, c, hidden, layer) => {
    const { dim } = heads(c)
    /** Of each head's channels. */
    const normed = (site: string, rows: Value) => b.rmsNorm(site, dim, c.rms_norm_eps, b.flatten(rows, dim), 1)

    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x, 1)
    const sliding = kindOf(c, layer) === "sliding_attention"
    const o = Decoder.attention(b, c, a, hidden, {
      heads: heads(c),
      rotary: sliding ? { tables: ["cos.sliding", "sin.sliding"] } : {},
      scale: 1 / Math.sqrt(c.query_pre_attn_scalar),
      ...(sliding && c.sliding_window !== null && { window: c.sliding_window }),
      bias: c.attention_bias,
      normed,
    })
    const h = b.add(x, b.rmsNorm("post_attention_layernorm", c.hidden_size, c.rms_norm_eps, o, 1))

    const m = b.rmsNorm("pre_feedforward_layernorm", c.hidden_size, c.rms_norm_eps, h, 1)
    const down = Decoder.gated(b, c, m, { activation: "gelu" })
    const out = b.rmsNorm("post_feedforward_layernorm", c.hidden_size, c.rms_norm_eps, down, 1)
    return b.unflatten(b.add(h, out), c.hidden_size, hidden)
  },

  head: (b, c, hidden) => {
    const logits = Decoder.logits(b, c, b.rmsNorm("model.norm", c.hidden_size, c.rms_norm_eps, hidden, 1))
    return c.final_logit_softcapping === null ? logits : b.softcap(logits, c.final_logit_softcapping)
  },

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "gemma3"),
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("gemma3", metadata, shapes)
      const { head_dim, hidden_size, num_attention_heads, num_hidden_layers } = sizes
      return {
        ...sizes,
        ...Gguf.rope("gemma3", metadata, floats, head_dim),
        ...Gguf.sliding("gemma3", metadata, num_hidden_layers, 6),
        rms_norm_eps: Gguf.rmsNormEpsilon("gemma3", metadata),
        // As in Gemma 2; the 27B has 62 layers.
        query_pre_attn_scalar: num_hidden_layers === 62 ? hidden_size / num_attention_heads : head_dim,
        sliding_window: Gguf.number(metadata, "gemma3.attention.sliding_window") || null,
        rope_theta: Gguf.need(metadata, "gemma3.rope.freq_base"),
        rope_local_base_freq: Gguf.number(metadata, "gemma3.rope.freq_base_swa") ?? 10_000,
        final_logit_softcapping: Gguf.number(metadata, "gemma3.final_logit_softcapping") ?? null,
      }
    },
    tensors: (name) => Gguf.tensors(name, NAMES, Gguf.lessOne),
  },
})

const NAMES = {
  ...Gguf.FOUR_NORMS,
  attn_q_norm: "model.layers.N.self_attn.q_norm",
  attn_k_norm: "model.layers.N.self_attn.k_norm",
}
