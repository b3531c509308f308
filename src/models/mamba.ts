/**
 * Mamba (Gu & Dao 2023): selective state spaces in place of attention. Follows `modeling_mamba.py` of Hugging Face
 * transformers. All is computed in float32, which is where `residual_in_fp32` keeps the residuals anyway.
 */
import * as Schema from "effect/Schema"
import type { Block } from "../onnx/Block.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Scan from "../onnx/Scan.ts"
import { flag, number, oneOf, Positive, sameUnderBoth, size, withDefault } from "./Config.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"

const Size = Schema.optionalKey(Positive)

/** Of a convolution; published models have 4. */
const MOST_TAPS = 16

/** The two names each of these sizes goes by. */
const SPELLINGS = [
  ["hidden_size", "d_model"],
  ["num_hidden_layers", "n_layer"],
  ["intermediate_size", "d_inner"],
  ["state_size", "d_state"],
  ["conv_kernel", "d_conv"],
] as const

const Config = Schema.Struct({
  vocab_size: size(50_280),
  hidden_size: Size,
  d_model: Size,
  num_hidden_layers: Size,
  n_layer: Size,
  intermediate_size: Size,
  d_inner: Size,
  /** Gives the inner size where there is none. */
  expand: size(2),
  state_size: Size,
  d_state: Size,
  conv_kernel: Size,
  d_conv: Size,
  /** `auto`: a sixteenth of the hidden size. */
  time_step_rank: withDefault(Schema.Union([Positive, Schema.Literal("auto")]), "auto"),
  layer_norm_epsilon: number(1e-5),
  hidden_act: oneOf("silu", "swish"),
  use_bias: flag(false),
  use_conv_bias: flag(true),
  tie_word_embeddings: flag(true),
}).check(
  sameUnderBoth(SPELLINGS),
  Schema.makeFilter((c) =>
    sizes(c).kernel >= 2 ? undefined : "conv_kernel 1 sees no token but its own; kernels from 2 on are known",
  ),
  // A product is drawn for each of them.
  Schema.makeFilter((c) =>
    sizes(c).kernel <= MOST_TAPS ? undefined : `conv_kernel is ${sizes(c).kernel}; at most ${MOST_TAPS} are drawn`,
  ),
)
type Config = typeof Config.Type

const sizes = (
  c: { readonly [name in (typeof SPELLINGS)[number][number]]?: number } & {
    readonly expand: number
    readonly time_step_rank: number | "auto"
  },
) => {
  const hidden = c.hidden_size ?? c.d_model ?? 768
  return {
    hidden,
    layers: c.num_hidden_layers ?? c.n_layer ?? 32,
    inner: c.intermediate_size ?? c.d_inner ?? c.expand * hidden,
    size: c.state_size ?? c.d_state ?? 16,
    kernel: c.conv_kernel ?? c.d_conv ?? 4,
    rank: c.time_step_rank === "auto" ? Math.ceil(hidden / 16) : c.time_step_rank,
  }
}

/** What a layer keeps: the inputs of the convolution that the next token sees, and h. */
const states = (c: Config) => {
  const { inner, kernel, size } = sizes(c)
  return { conv: [kernel - 1, inner], ssm: [size, inner] } as const
}

/** Each channel of [batch, sequence, channels] over itself and the tokens before it. */
const convolution = (b: Block, c: Config, x: Value): Value => {
  const { graph } = b
  const { inner, kernel } = sizes(c)
  const dims = states(c).conv
  const all = graph.op("Concat", [b.past("conv", dims), x], { axis: 1 })

  // Rows valid … valid + kernel - 2 of it are the last ones before padding.
  const offsets = graph.constant("int32", [...Array(dims[0]).keys()], [1, dims[0]])
  const last = graph.op("Add", [graph.op("Unsqueeze", [b.valid(), graph.ints(1)]), offsets])
  const indices = graph.op("Unsqueeze", [graph.cast(last, "int64"), graph.ints(2)])
  b.keep("conv", graph.op("GatherND", [all, indices], { batch_dims: 1 }), dims)

  const taps = b.split(
    b.reshape(b.weight("mixer.conv1d.weight", [inner, 1, kernel]), inner, kernel),
    Array(kernel).fill(1),
  )
  const sum = taps
    .map((tap, k) => {
      // The last tap meets the token itself.
      const behind = kernel - 1 - k
      const end = behind === 0 ? Number.MAX_SAFE_INTEGER : -behind
      const seen = graph.op("Slice", [all, graph.ints(k), graph.ints(end), graph.ints(1)])
      return b.multiply(seen, b.reshape(tap, inner))
    })
    .reduce((a, term) => b.add(a, term))
  return c.use_conv_bias ? b.add(sum, b.weight("mixer.conv1d.bias", [inner])) : sum
}

export default Family.make<Config>({
  covers: "Mamba",
  config: Config,
  shape: (c) => {
    const { hidden, layers } = sizes(c)
    const memory = { kind: "recurrent", states: states(c) } as const
    // There are no positions.
    return { layers, hidden, vocabulary: c.vocab_size, memory, context: Number.MAX_SAFE_INTEGER }
  },

  embed: (b, c, tokens) => b.lookup("backbone.embeddings", [c.vocab_size, sizes(c).hidden], tokens),

  block: (b, c, hidden) => {
    const { graph } = b
    const { hidden: width, inner, rank, size } = sizes(c)
    const linear = { bias: c.use_bias }

    const flat = b.flatten(hidden, width)
    const normed = b.rmsNorm("norm", width, c.layer_norm_epsilon, flat)
    const [input, gate] = b.split(b.linear("mixer.in_proj", [2 * inner, width], normed, linear), [inner, inner])
    const x = b.silu(b.flatten(convolution(b, c, b.unflatten(input!, inner, hidden)), inner))

    const selected = b.linear("mixer.x_proj", [rank + 2 * size, inner], x, { bias: false })
    const [steps, B, C] = b.split(selected, [rank, size, size])
    const dt = b.softplus(b.linear("mixer.dt_proj", [inner, rank], steps!, { bias: true }))
    const rate = graph.op("Neg", [graph.op("Exp", [b.weight("mixer.A_log", [inner, size])])])
    const dims = states(c).ssm
    const { state, y } = Scan.selective(b, "ssm", dims, {
      dt: b.unflatten(dt, inner, hidden),
      x: b.unflatten(b.multiply(dt, x), inner, hidden),
      B: b.unflatten(B!, size, hidden),
      C: b.unflatten(C!, size, hidden),
      A: graph.op("Transpose", [rate], { perm: [1, 0] }),
      past: b.past("ssm", dims),
    })
    b.keep("ssm", state, dims)

    const skipped = b.add(b.flatten(y, inner), b.multiply(x, b.weight("mixer.D", [inner])))
    const out = b.linear("mixer.out_proj", [width, inner], b.multiply(skipped, b.silu(gate!)), linear)
    return b.unflatten(b.add(flat, out), width, hidden)
  },

  head: (b, c, hidden) => {
    const { hidden: width } = sizes(c)
    const tied = c.tie_word_embeddings ? { weight: "backbone.embeddings.weight" } : {}
    const normed = b.rmsNorm("backbone.norm_f", width, c.layer_norm_epsilon, hidden)
    return b.linear("lm_head", [c.vocab_size, width], normed, { bias: false, ...tied })
  },

  prefix: (layer) => `backbone.layers.${layer}.`,
  ignored: (c) => (c.tie_word_embeddings ? /^lm_head\.weight$/ : /^$/),
  // The bare model is stored without a prefix, and early conversions have one embedding.
  rename: (name) =>
    name
      .replace(/^(?=embeddings?\.|layers\.|norm_f\.)/, "backbone.")
      .replace(/^backbone\.embedding\./, "backbone.embeddings."),

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "mamba"),
    config: (metadata, _floats, shapes) => {
      if (metadata.get("mamba.ssm.dt_b_c_rms") === true)
        throw new Error("the key mamba.ssm.dt_b_c_rms is true: norms of FalconMamba, which is not known here")
      return {
        ...Gguf.vocabulary(shapes),
        hidden_size: Gguf.need(metadata, "mamba.embedding_length"),
        num_hidden_layers: Gguf.need(metadata, "mamba.block_count"),
        intermediate_size: Gguf.need(metadata, "mamba.ssm.inner_size"),
        state_size: Gguf.need(metadata, "mamba.ssm.state_size"),
        conv_kernel: Gguf.need(metadata, "mamba.ssm.conv_kernel"),
        time_step_rank: Gguf.need(metadata, "mamba.ssm.time_step_rank"),
        layer_norm_epsilon: Gguf.rmsNormEpsilon("mamba", metadata),
        use_bias: shapes.has("blk.0.ssm_in.bias"),
        use_conv_bias: shapes.has("blk.0.ssm_conv1d.bias"),
      }
    },
    tensors: (name) =>
      Gguf.tensors(name, NAMES, (target) => (target.endsWith(".A_log") ? [{ kind: "logNegated" }] : [])),
  },
})

const NAMES = {
  token_embd: "backbone.embeddings",
  output_norm: "backbone.norm_f",
  output: "lm_head",
  attn_norm: "backbone.layers.N.norm",
  ssm_in: "backbone.layers.N.mixer.in_proj",
  ssm_conv1d: "backbone.layers.N.mixer.conv1d",
  ssm_x: "backbone.layers.N.mixer.x_proj",
  ssm_dt: "backbone.layers.N.mixer.dt_proj",
  ssm_a: "backbone.layers.N.mixer.A_log",
  ssm_d: "backbone.layers.N.mixer.D",
  ssm_out: "backbone.layers.N.mixer.out_proj",
}
