/**
 * Mixtral (Jiang et al. 2024): Mistral's attention, and experts of which each token passes through a few. Mixtral 8x7B
 * and 8x22B, and merges of other numbers of experts. Follows `modeling_mixtral.py` of Hugging Face transformers.
 */
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
import { evenGroups, evenHeadsOrDim, flag, heads, number, oneOf, Positive, size, withDefault } from "./Config.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Rotary from "./Rotary.ts"

const Config = Schema.Struct({
  hidden_size: Positive,
  intermediate_size: Positive,
  num_hidden_layers: Positive,
  num_attention_heads: Positive,
  /** Absent: 8. Null: as many as heads. */
  num_key_value_heads: withDefault(Schema.NullOr(Positive), 8),
  head_dim: Schema.optionalKey(Schema.NullOr(Positive)),
  vocab_size: Positive,
  max_position_embeddings: size(131_072),
  rms_norm_eps: number(1e-5),
  hidden_act: oneOf("silu"),
  tie_word_embeddings: flag(false),
  sliding_window: withDefault(Schema.NullOr(Positive), null),
  num_local_experts: size(8),
  num_experts_per_tok: size(2),
  ...Rotary.fields,
}).check(
  evenGroups,
  evenHeadsOrDim,
  Schema.makeFilter((c) =>
    c.num_experts_per_tok <= c.num_local_experts
      ? undefined
      : `num_experts_per_tok ${c.num_experts_per_tok} is more than num_local_experts ${c.num_local_experts}`,
  ),
  Rotary.check,
  Rotary.wholeHeads,
)
type Config = typeof Config.Type

const THETA = 1_000_000
const plain = { bias: false }

export default Family.make<Config>({
  covers: "Mixtral 8x7B, 8x22B, merges of other numbers of experts",
  config: Config,
  ...Decoder.frame,
  tables: (c, length) => Rope.tables(Rotary.rope(c, c.max_position_embeddings, THETA), heads(c).dim, length),

  block: (b, c, hidden) => {
    const { graph } = b
    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x)
    const o = Decoder.attention(b, c, a, hidden, {
      heads: heads(c),
      rotary: {},
      ...(c.sliding_window !== null && { window: c.sliding_window }),
      bias: false,
    })
    const h = b.add(x, o)

    const m = b.rmsNorm("post_attention_layernorm", c.hidden_size, c.rms_norm_eps, h)
    const router = b.linear("block_sparse_moe.gate", [c.num_local_experts, c.hidden_size], m, {
      ...plain,
      byName: true,
    })
    const likely = graph.op("Softmax", [router], { axis: -1 })
    const [best, chosen] = graph.ops("TopK", [likely, graph.ints(c.num_experts_per_tok)], 2, { axis: -1 })
    const together = graph.op("ReduceSum", [best!, graph.ints(-1)], { keepdims: 1 })
    const none = graph.op("ConstantOfShape", [graph.op("Shape", [likely])])
    const shares = graph.op("ScatterElements", [none, chosen!, graph.op("Div", [best!, together])], { axis: -1 })
    b.carry("normed", b.unflatten(m, c.hidden_size, hidden), c.hidden_size)
    b.carry("shares", b.unflatten(shares, c.num_local_experts, hidden), c.num_local_experts)
    return b.unflatten(h, c.hidden_size, hidden)
  },

  experts: {
    count: (c) => c.num_local_experts,
    prefix: (expert) => `block_sparse_moe.experts.${expert}.`,
    block: (b, c, hidden) => {
      const routed = b.route(b.carried("shares", c.num_local_experts), c.num_local_experts)
      const m = b.dispatch(routed, b.carried("normed", c.hidden_size), c.hidden_size, "post_attention_layernorm")
      const gate = b.silu(b.linear("w1", [c.intermediate_size, c.hidden_size], m, plain))
      const up = b.linear("w3", [c.intermediate_size, c.hidden_size], m, plain)
      const down = b.linear("w2", [c.hidden_size, c.intermediate_size], b.multiply(gate, up), plain)
      return b.combine(routed, hidden, down, c.hidden_size)
    },
  },

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "llama") && (metadata.get("llama.expert_count") ?? 0) !== 0,
    config: (metadata, floats, shapes) => ({
      ...Gguf.decoder("llama", metadata, floats, shapes),
      num_local_experts: Gguf.need(metadata, "llama.expert_count"),
      num_experts_per_tok: Gguf.need(metadata, "llama.expert_used_count"),
    }),
    // Experts are stacked in one tensor, and before April 2024 were apart: blk.0.ffn_up_exps, blk.0.ffn_up.5
    tensors: (name, c) => {
      const [, layer, own, expert] = /^blk\.(\d+)\.ffn_(gate|up|down)(?:_exps|\.(\d+))\.weight$/.exec(name) ?? []
      if (layer === undefined) return Gguf.tensors(name, NAMES, Gguf.unpermuted(heads(c)))
      const site = { gate: "w1", down: "w2", up: "w3" }[own as "gate" | "down" | "up"]
      const nameOf = (index: number | string) =>
        `model.layers.${layer}.block_sparse_moe.experts.${index}.${site}.weight`
      if (expert !== undefined) return [{ name: nameOf(expert) }]
      const of = c.num_local_experts
      return Array.from({ length: of }, (_, index) => ({ name: nameOf(index), part: { index, of } }))
    },
  },
})

const NAMES = { ...Gguf.NAMES, ffn_gate_inp: "model.layers.N.block_sparse_moe.gate" }
