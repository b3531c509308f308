/**
 * What the GGUF files of most families have in common: key-value pairs to config, and the names of tensors. Follows
 * llama.cpp: `convert_hf_to_gguf.py` writes the files, and where it leaves something out, `src/models` of llama.cpp says
 * what is meant. What cannot be told from a file ends in an Error that names the key.
 */
import * as Rope from "../math/Rope.ts"
import type { Transform } from "../math/Transform.ts"
import { type Gguf, type GgufMetadata, type GgufTensor, MOST_LAYERS } from "./Family.ts"

type Floats = Parameters<Gguf<never>["config"]>[1]
type Shapes = Parameters<Gguf<never>["config"]>[2]

/** A key's number, if the key is there. Some architectures have a list, one number for each layer: none of these here. */
export const number = (metadata: GgufMetadata, key: string): number | undefined => {
  const value = metadata.get(key)
  if (value !== undefined && typeof value !== "number") throw new Error(`the key ${key} is no number`)
  return value
}

/** A key's number, which must be there. */
export const need = (metadata: GgufMetadata, key: string): number => {
  const value = number(metadata, key)
  if (value === undefined) throw new Error(`the key ${key} is missing`)
  return value
}

export const isOf = (metadata: GgufMetadata, architecture: string): boolean =>
  metadata.get("general.architecture") === architecture

/** Sizes as config.json spells them. The head is tied where the file has none of its own. */
export const sizes = (architecture: string, metadata: GgufMetadata, shapes: Shapes) => {
  const key = (name: string) => `${architecture}.${name}`
  const heads = need(metadata, key("attention.head_count"))
  const hidden = need(metadata, key("embedding_length"))
  const dim = number(metadata, key("attention.key_length")) ?? hidden / heads
  const values = number(metadata, key("attention.value_length")) ?? dim
  if (values !== dim) throw new Error(`${key("attention.value_length")} is ${values}, but keys have ${dim} channels`)
  return {
    hidden_size: hidden,
    intermediate_size: need(metadata, key("feed_forward_length")),
    num_hidden_layers: need(metadata, key("block_count")),
    num_attention_heads: heads,
    num_key_value_heads: number(metadata, key("attention.head_count_kv")) ?? heads,
    head_dim: dim,
    max_position_embeddings: need(metadata, key("context_length")),
    ...vocabulary(shapes),
  }
}

export const vocabulary = (shapes: Shapes) => {
  const rows = shapes.get("token_embd.weight")?.[0]
  if (rows === undefined) throw new Error("the tensor token_embd.weight is missing")
  return { vocab_size: rows, tie_word_embeddings: !shapes.has("output.weight") }
}

export const layerNormEpsilon = (architecture: string, metadata: GgufMetadata) =>
  need(metadata, `${architecture}.attention.layer_norm_epsilon`)
export const rmsNormEpsilon = (architecture: string, metadata: GgufMetadata) =>
  need(metadata, `${architecture}.attention.layer_norm_rms_epsilon`)

/** How many channels of a head are turned, and which part of its `dim` that is. */
export const turned = (architecture: string, metadata: GgufMetadata, dim: number) => {
  const count = need(metadata, `${architecture}.rope.dimension_count`)
  const part = count / dim
  // The quotient may be rounded so that its product with dim is less than the whole number.
  return { count, part: Math.trunc(part * dim) === count ? part : part * (1 + Number.EPSILON) }
}

/** Settings `rope.scaling.*` beside type, factor and context that are read here, and what others are if they do nothing. */
const READ = new Set(["type", "factor", "original_context_length", "finetuned", "yarn_beta_fast", "yarn_beta_slow"])
const NEUTRAL: { readonly [setting: string]: number } = {
  attn_factor: 1,
  yarn_attn_factor: 1,
  yarn_ext_factor: 1,
  yarn_log_multiplier: 0,
}

/**
 * Rotary settings of heads of which `dim` channels are turned. `rope_freqs.weight` holds the factors by which Llama 3's
 * scaling divides the frequencies: the file does not say how they came to be, so the published settings are tried.
 * `rope_factors_{short,long}.weight` are those of longrope.
 */
export const rope = (architecture: string, metadata: GgufMetadata, floats: Floats, dim: number) => {
  const key = (name: string) => `${architecture}.rope.${name}`
  const count = number(metadata, key("dimension_count")) ?? dim
  if (count !== dim) throw new Error(`${key("dimension_count")} is ${count}; expected ${dim} channels of a head`)
  const theta = number(metadata, key("freq_base")) ?? 10_000
  const long = floats("rope_factors_long.weight")
  const short = floats("rope_factors_short.weight")
  const factors = floats("rope_freqs.weight")

  const prefix = key("scaling.")
  for (const [name, value] of metadata) {
    const setting = name.slice(prefix.length)
    if (!name.startsWith(prefix) || READ.has(setting) || value === NEUTRAL[setting]) continue
    if (setting !== "attn_factor" || long === undefined)
      throw new Error(`the key ${name} is ${String(value)}, a setting that is not known here`)
  }
  const type = metadata.get(key("scaling.type")) ?? "none"
  const factor = number(metadata, key("scaling.factor")) ?? number(metadata, key("scale_linear"))
  const original = () => need(metadata, key("scaling.original_context_length"))

  if (long !== undefined || short !== undefined) {
    if (long === undefined || short === undefined)
      throw new Error(`the tensor rope_factors_${long === undefined ? "long" : "short"}.weight is missing`)
    const sharper = number(metadata, key("scaling.attn_factor"))
    return {
      rope_theta: theta,
      original_max_position_embeddings: original(),
      rope_scaling: {
        rope_type: "longrope",
        short_factor: [...short],
        long_factor: [...long],
        ...(sharper !== undefined && { attention_factor: sharper }),
      },
    }
  }
  if (factors !== undefined) {
    if (type !== "none") throw new Error(`${key("scaling.type")} is ${String(type)}, and there is rope_freqs.weight`)
    if (2 * factors.length !== dim)
      throw new Error(`rope_freqs.weight has ${factors.length} factors for ${dim / 2} pairs of channels`)
    return { rope_theta: theta, rope_scaling: llama3(theta, factors) }
  }
  if (type === "none" && (factor ?? 1) === 1) return { rope_theta: theta }
  if (type !== "linear" && type !== "none" && type !== "yarn")
    throw new Error(`${key("scaling.type")} is ${String(type)}; known: none, linear, yarn`)
  const stretch = factor ?? need(metadata, key("scaling.factor"))
  if (type !== "yarn") return { rope_theta: theta, rope_scaling: { rope_type: "linear", factor: stretch } }
  const fast = number(metadata, key("scaling.yarn_beta_fast"))
  const slow = number(metadata, key("scaling.yarn_beta_slow"))
  return {
    rope_theta: theta,
    rope_scaling: {
      rope_type: "yarn",
      factor: stretch,
      original_max_position_embeddings: original(),
      ...(fast !== undefined && { beta_fast: fast }),
      ...(slow !== undefined && { beta_slow: slow }),
    },
  }
}

/** What the files of most of Llama's descendants say, whose heads are turned as a whole. */
export const decoder = (architecture: string, metadata: GgufMetadata, floats: Floats, shapes: Shapes) => {
  const known = sizes(architecture, metadata, shapes)
  return {
    ...known,
    ...rope(architecture, metadata, floats, known.head_dim),
    rms_norm_eps: rmsNormEpsilon(architecture, metadata),
  }
}

/** Of Llama 3.1 and 3.2, which differ in the factor alone. */
const llama3 = (theta: number, factors: Float32Array) => {
  const factor = factors.reduce((largest, it) => Math.max(largest, it), 1)
  const settings = { factor, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 }
  const dim = 2 * factors.length
  const plain = Rope.inverseFrequencies({ type: "default", theta }, dim, 1)
  const scaled = Rope.inverseFrequencies(
    { type: "llama3", theta, factor, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 8192 },
    dim,
    1,
  )
  if (!factors.every((it, i) => Math.abs(plain[i]! / scaled[i]! / it - 1) <= 1e-4))
    throw new Error("rope_freqs.weight holds other factors than the scaling of Llama 3; such files are not read")
  return { rope_type: "llama3", ...settings }
}

/** Which layers see a window only: every `period`-th sees all, where the file says nothing else. */
export const sliding = (architecture: string, metadata: GgufMetadata, layers: number, period: number) => {
  const key = `${architecture}.attention.sliding_window_pattern`
  const pattern = metadata.get(key) ?? period
  if (typeof pattern !== "number" && !Array.isArray(pattern))
    throw new Error(`the key ${key} is ${String(pattern)}; expected a number or a list`)
  if (layers > MOST_LAYERS)
    throw new Error(`the key ${architecture}.block_count is ${layers}; at most ${MOST_LAYERS} are read`)
  const slides =
    typeof pattern === "number"
      ? Array.from({ length: layers }, (_, layer) => (layer + 1) % pattern !== 0)
      : pattern.map(Boolean)
  return { layer_types: slides.map((it) => (it ? "sliding_attention" : "full_attention")) }
}

/** Names without block number and suffix: `attn_q`. What is null is read into the config, and no weight. */
export type Table = { readonly [gguf: string]: string | null }

export const ROPE = { rope_freqs: null, rope_factors_long: null, rope_factors_short: null }

/** Of Llama and what is named like it. */
export const NAMES = {
  ...ROPE,
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head",
  attn_norm: "model.layers.N.input_layernorm",
  attn_q: "model.layers.N.self_attn.q_proj",
  attn_k: "model.layers.N.self_attn.k_proj",
  attn_v: "model.layers.N.self_attn.v_proj",
  attn_output: "model.layers.N.self_attn.o_proj",
  ffn_norm: "model.layers.N.post_attention_layernorm",
  ffn_gate: "model.layers.N.mlp.gate_proj",
  ffn_up: "model.layers.N.mlp.up_proj",
  ffn_down: "model.layers.N.mlp.down_proj",
}

/** Of Gemma 2 and 3, which norm what comes out of both halves of a block, too. */
export const FOUR_NORMS = {
  ...NAMES,
  post_attention_norm: "model.layers.N.post_attention_layernorm",
  ffn_norm: "model.layers.N.pre_feedforward_layernorm",
  post_ffw_norm: "model.layers.N.post_feedforward_layernorm",
}

/**
 * The catalog's tensor that is a tensor of the file: `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`.
 * `undo` gives what undoes the converter's rearrangements, by the catalog's name.
 */
export const tensors = (
  name: string,
  table: Table,
  undo: (target: string) => ReadonlyArray<Transform> = () => [],
): ReadonlyArray<GgufTensor> | undefined => {
  const [, block, own, suffix = ""] = /^(?:blk\.(\d+)\.)?([a-z0-9_]+?)((?:\.weight|\.bias)?)$/.exec(name) ?? []
  const target = own === undefined || !Object.hasOwn(table, own) ? undefined : table[own]
  if (target === null && block === undefined) return []
  if (target == null || target.includes(".N.") !== (block !== undefined)) return undefined
  const known = target.replace(".N.", `.${block}.`) + suffix
  const transforms = undo(known)
  return [transforms.length === 0 ? { name: known } : { name: known, transforms }]
}

/** Llama's queries and keys: the converter puts the two halves of each head next to each other, channel by channel. */
export const unpermuted =
  ({ keyValue, query }: { readonly query: number; readonly keyValue: number }) =>
  (target: string): ReadonlyArray<Transform> => {
    const which = /\.self_attn\.([qk])_proj\./.exec(target)?.[1]
    return which === undefined ? [] : [{ kind: "unpermute", heads: which === "q" ? query : keyValue }]
  }

/** Gemma's gains: 1 + w in the file, w in the checkpoint. */
export const lessOne = (target: string): ReadonlyArray<Transform> =>
  target.endsWith("norm.weight") ? [{ kind: "add", value: -1 }] : []

/** All queries, all keys, all values in the file; in the checkpoint those of a group next to each other. */
export const regrouped =
  (groups: number, parts: ReadonlyArray<number>) =>
  (target: string): ReadonlyArray<Transform> =>
    target.includes(".query_key_value.") ? [{ kind: "regroup", groups, parts }] : []
