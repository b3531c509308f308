/**
 * ChatGLM2, ChatGLM3 and GLM-4-9B as first published (GLM Team 2024), and CodeGeeX2. Follows the `modeling_chatglm.py`
 * that comes with these weights (THUDM/chatglm2-6b, THUDM/chatglm3-6b): keys and values in few groups, in one matrix
 * with the queries, the leading half of each head turned in neighbouring pairs, both branches of the MLP in one matrix.
 * Its `apply_query_key_layer_scaling` divides scores and multiplies them again, and nothing reads its `original_rope`.
 * The vocabulary beside GLM-4's weights is tiktoken's, which is not read here: `covers` is silent about it.
 */
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
import type { Block } from "../onnx/Block.ts"
import type { Value } from "../onnx/Graph.ts"
import { flag, number, Positive, size, withDefault } from "./Config.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"

const Config = Schema.Struct({
  /** The first ChatGLM-6B, another architecture of the same model type, has no such key. */
  padded_vocab_size: Positive,
  num_layers: size(28),
  hidden_size: size(4096),
  ffn_hidden_size: size(13_696),
  kv_channels: size(128),
  num_attention_heads: size(32),
  multi_query_attention: flag(false),
  multi_query_group_num: size(1),
  seq_length: size(2048),
  layernorm_epsilon: number(1e-5),
  rmsnorm: flag(true),
  post_layer_norm: flag(true),
  apply_residual_connection_post_layernorm: flag(false),
  add_bias_linear: flag(false),
  add_qkv_bias: flag(false),
  rope_ratio: withDefault(Schema.Finite.check(Schema.isGreaterThan(0)), 1),
  /** Whose code gives `rope_ratio` its meaning. */
  _name_or_path: Schema.optionalKey(Schema.String),
  /** The code has a head of its own whatever the config says. */
  tie_word_embeddings: Schema.optionalKey(Schema.Literal(false)),
  /** Weights of other numbers of bits are codes with scales beside them. */
  quantization_bit: Schema.optionalKey(Schema.Literal(0)),
  /** A number asks for tuned keys and values before those of the text. */
  pre_seq_len: Schema.optionalKey(Schema.Null),
}).check(
  Schema.makeFilter((c) =>
    c.num_attention_heads % heads(c).keyValue === 0
      ? undefined
      : `num_attention_heads ${c.num_attention_heads} is not a multiple of multi_query_group_num ${c.multi_query_group_num}`,
  ),
  Schema.makeFilter((c) =>
    c.kv_channels % 4 === 0
      ? undefined
      : `half of a head is turned in pairs, and kv_channels ${c.kv_channels} is not a multiple of 4`,
  ),
)
type Config = typeof Config.Type

const heads = (c: Config) => ({
  query: c.num_attention_heads,
  keyValue: c.multi_query_attention ? c.multi_query_group_num : c.num_attention_heads,
  dim: c.kv_channels,
})
const rotaryDim = (c: Config) => c.kv_channels / 2

/** The code of ChatGLM2-6B-32K divides positions by the ratio; that of all later models multiplies the base by it. */
const rope = ({ _name_or_path = "", rope_ratio }: Config): Rope.Rope =>
  rope_ratio !== 1 && /chatglm2|codegeex2/i.test(_name_or_path)
    ? { type: "linear", theta: 10_000, factor: rope_ratio }
    : { type: "default", theta: 10_000 * rope_ratio }

const norm = (b: Block, c: Config, site: string, x: Value): Value =>
  c.rmsnorm
    ? b.rmsNorm(site, c.hidden_size, c.layernorm_epsilon, x)
    : b.layerNorm(site, c.hidden_size, c.layernorm_epsilon, x, { bias: true })

/** Queries, keys and values, each [batch, sequence, heads x dim], of the product of their common matrix. */
const apart = (b: Block, c: Config, fused: Value): ReadonlyArray<Value> => {
  const { dim, keyValue, query } = heads(c)
  if (c.multi_query_attention) return b.split(fused, [query * dim, keyValue * dim, keyValue * dim])
  // Those of one head next to each other.
  return b
    .split(b.reshape(fused, 0, 0, query, 3 * dim), [dim, dim, dim])
    .map((part) => b.reshape(part, 0, 0, query * dim))
}

export default Family.make<Config>({
  covers: "ChatGLM2, ChatGLM3, CodeGeeX2",
  config: Config,
  shape: (c) => ({
    layers: c.num_layers,
    hidden: c.hidden_size,
    vocabulary: c.padded_vocab_size,
    memory: { kind: "keyValue", heads: heads(c) },
    context: c.seq_length,
  }),
  tables: (c, length) => Rope.tables(rope(c), rotaryDim(c), length),

  embed: (b, c, tokens) =>
    b.lookup("transformer.embedding.word_embeddings", [c.padded_vocab_size, c.hidden_size], tokens),

  block: (b, c, hidden) => {
    const size = c.hidden_size
    const { dim, keyValue, query } = heads(c)
    const fusedSize = (query + 2 * keyValue) * dim
    const bias = { bias: c.add_bias_linear }
    const besides = (before: Value, normed: Value) => (c.apply_residual_connection_post_layernorm ? normed : before)

    const x = b.flatten(hidden, size)
    const a = norm(b, c, "input_layernorm", x)
    const fused = b.linear("self_attention.query_key_value", [fusedSize, size], a, {
      bias: c.add_bias_linear || c.add_qkv_bias,
    })
    const [q, k, v] = apart(b, c, b.unflatten(fused, fusedSize, hidden))
    const mixed = b.attention(q!, k!, v!, { heads: heads(c), rotary: { dim: rotaryDim(c), interleaved: true } })
    const o = b.linear("self_attention.dense", [size, query * dim], b.flatten(mixed, query * dim), bias)
    const h = b.add(besides(x, a), o)

    const m = norm(b, c, "post_attention_layernorm", h)
    const wide = b.linear("mlp.dense_h_to_4h", [2 * c.ffn_hidden_size, size], m, bias)
    const [gate, up] = b.split(wide, [c.ffn_hidden_size, c.ffn_hidden_size])
    const down = b.linear("mlp.dense_4h_to_h", [size, c.ffn_hidden_size], b.multiply(b.silu(gate!), up!), bias)
    return b.unflatten(b.add(besides(h, m), down), size, hidden)
  },

  head: (b, c, hidden) =>
    b.linear(
      "transformer.output_layer",
      [c.padded_vocab_size, c.hidden_size],
      c.post_layer_norm ? norm(b, c, "transformer.encoder.final_layernorm", hidden) : hidden,
      { bias: false },
    ),

  prefix: (layer) => `transformer.encoder.layers.${layer}.`,
  // Checkpoints of the bare model lack the prefix.
  rename: (name) => name.replace(/^(?=(embedding|encoder|output_layer|rotary_pos_emb)\.)/, "transformer."),
  ignored: () => /^transformer\.rotary_pos_emb\.inv_freq$/,

  chatTemplate: ({ _name_or_path = "" }) =>
    /chatglm2/i.test(_name_or_path) ? CHATGLM2 : /chatglm3/i.test(_name_or_path) ? CHATGLM3 : undefined,

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "chatglm"),
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("chatglm", metadata, shapes)
      const rope = Gguf.rope("chatglm", metadata, floats, sizes.head_dim / 2)
      if ("rope_scaling" in rope) throw new Error("positions are scaled, which no model of this architecture does")
      return {
        padded_vocab_size: sizes.vocab_size,
        num_layers: sizes.num_hidden_layers,
        hidden_size: sizes.hidden_size,
        ffn_hidden_size: sizes.intermediate_size,
        kv_channels: sizes.head_dim,
        num_attention_heads: sizes.num_attention_heads,
        multi_query_attention: true,
        multi_query_group_num: sizes.num_key_value_heads,
        seq_length: sizes.max_position_embeddings,
        layernorm_epsilon: Gguf.rmsNormEpsilon("chatglm", metadata),
        add_qkv_bias: shapes.has("blk.0.attn_qkv.bias"),
        rope_ratio: rope.rope_theta / 10_000,
      }
    },
    tensors: (name) => Gguf.tensors(name, NAMES),
  },
})

const NAMES = {
  ...Gguf.ROPE,
  token_embd: "transformer.embedding.word_embeddings",
  output_norm: "transformer.encoder.final_layernorm",
  output: "transformer.output_layer",
  attn_norm: "transformer.encoder.layers.N.input_layernorm",
  attn_qkv: "transformer.encoder.layers.N.self_attention.query_key_value",
  attn_output: "transformer.encoder.layers.N.self_attention.dense",
  ffn_norm: "transformer.encoder.layers.N.post_attention_layernorm",
  ffn_up: "transformer.encoder.layers.N.mlp.dense_h_to_4h",
  ffn_down: "transformer.encoder.layers.N.mlp.dense_4h_to_h",
}

/** `build_prompt` of ChatGLM2's tokenization_chatglm.py; `[gMASK]` and `sop` begin every sequence. */
const CHATGLM2 = `[gMASK]sop{%- set ns = namespace(round=0) -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{%- set ns.round = ns.round + 1 -%}
{{- '[Round ' ~ ns.round ~ ']\\n\\n问：' ~ message['content'] ~ '\\n\\n答：' -}}
{%- elif message['role'] == 'assistant' -%}
{{- message['content'] ~ '\\n\\n' -}}
{%- else -%}
{{- raise_exception('ChatGLM2 knows the roles user and assistant only') -}}
{%- endif -%}
{%- endfor -%}`

/** `build_chat_input` of ChatGLM3's tokenization_chatglm.py. */
const CHATGLM3 = `[gMASK]sop{%- for message in messages -%}
{{- '<|' ~ message['role'] ~ '|>\\n ' ~ message['content'] -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}`
