/** What the GGUF files of most families have in common: key-value pairs to config, and the names of tensors. */
import * as Rope from "../math/Rope.ts"
import type { GgufMetadata } from "./Family.ts"

type Shapes = ReadonlyMap<string, ReadonlyArray<number>>

const number = (metadata: GgufMetadata, key: string): number | undefined => {
  const value = metadata.get(key)
  return typeof value === "number" ? value : undefined
}

/** A key's number. Throws, naming the key, where there is none. */
export const need = (metadata: GgufMetadata, key: string): number => {
  const value = number(metadata, key)
  if (value === undefined) throw new Error(`the key ${key} is ${metadata.has(key) ? "no number" : "missing"}`)
  return value
}

/** Sizes as config.json spells them. The head is tied where the file has none of its own. */
export const sizes = (architecture: string, metadata: GgufMetadata, shapes: Shapes) => {
  const key = (name: string) => `${architecture}.${name}`
  const heads = need(metadata, key("attention.head_count"))
  const hidden = need(metadata, key("embedding_length"))
  const rows = shapes.get("token_embd.weight")?.[0]
  if (rows === undefined) throw new Error("the tensor token_embd.weight is missing")
  return {
    hidden_size: hidden,
    intermediate_size: number(metadata, key("feed_forward_length")),
    num_hidden_layers: need(metadata, key("block_count")),
    num_attention_heads: heads,
    num_key_value_heads: number(metadata, key("attention.head_count_kv")) ?? heads,
    head_dim: number(metadata, key("attention.key_length")) ?? hidden / heads,
    vocab_size: rows,
    max_position_embeddings: need(metadata, key("context_length")),
    tie_word_embeddings: !shapes.has("output.weight"),
  }
}

/**
 * Rotary settings. `factors` are those of `rope_freqs.weight`, by which Llama 3's scaling divides the frequencies: the file
 * does not say how they came to be, so the published settings are tried until one gives them.
 */
export const rope = (architecture: string, metadata: GgufMetadata, factors: Float32Array | undefined) => {
  const theta = number(metadata, `${architecture}.rope.freq_base`) ?? 10_000
  const type = metadata.get(`${architecture}.rope.scaling.type`) ?? "none"
  const factor =
    number(metadata, `${architecture}.rope.scaling.factor`) ?? number(metadata, `${architecture}.rope.scale_linear`)
  if (factors !== undefined) return { rope_theta: theta, rope_scaling: llama3(theta, factors) }
  if (type === "none" && (factor ?? 1) === 1) return { rope_theta: theta }
  if (type === "linear" || type === "none") return { rope_theta: theta, rope_scaling: { rope_type: "linear", factor } }
  if (type !== "yarn") throw new Error(`the rope scaling '${String(type)}' is not known; known: none, linear, yarn`)
  const original = need(metadata, `${architecture}.rope.scaling.original_context_length`)
  return {
    rope_theta: theta,
    rope_scaling: { rope_type: "yarn", factor, original_max_position_embeddings: original },
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
  if (factors.some((it, i) => Math.abs(plain[i]! / scaled[i]! / it - 1) > 1e-4))
    throw new Error("rope_freqs.weight holds other factors than the scaling of Llama 3; such files are not read")
  return { rope_type: "llama3", ...settings }
}

/**
 * The catalog's name of a tensor: `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`, by a table of names
 * without block number and suffix. A name of the table that has a suffix of its own keeps none of the file's.
 */
export const tensor = (name: string, table: { readonly [gguf: string]: string }): string | undefined => {
  const [, block, own, suffix = ""] = /^(?:blk\.(\d+)\.)?([a-z0-9_]+?)((?:\.weight|\.bias)?)$/.exec(name) ?? []
  const target = own === undefined || !Object.hasOwn(table, own) ? undefined : table[own]!
  return target === undefined || target.includes(".N.") !== (block !== undefined)
    ? undefined
    : target.replace(".N.", `.${block}.`) + suffix
}
