/** Any family at one size: a few blocks whose linears hold the same number of weights that a token meets. */
import * as Schema from "effect/Schema"
import type * as Model from "../../src/compute/Model.ts"
import type * as Family from "../../src/models/Family.ts"
import * as Blocks from "./Blocks.ts"

export const LENGTH = 512
/** Sequences that go through a block together. */
export const TOGETHER = 4

const HIDDEN = 576
/** Weights in the linears of a block that a token meets: attention's four squares and a feed-forward layer of eight. */
const WEIGHTS = 12 * HIDDEN ** 2
const BLOCKS = 4

/** Of each token's experts. */
export const MET = 2

/** A config of every spelling: a family reads its own and ignores the rest. */
const spelled = (name: string, width: number, layers: number) => ({
  hidden_size: HIDDEN,
  num_hidden_layers: layers,
  num_layers: layers,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  multi_query_attention: true,
  multi_query_group_num: 3,
  head_dim: 64,
  kv_channels: 64,
  intermediate_size: width,
  ffn_hidden_size: width,
  ffn_dim: width,
  n_inner: width,
  vocab_size: 1024,
  padded_vocab_size: 1024,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
  num_local_experts: 4,
  num_experts_per_tok: MET,
  ...(name === "gpt_neo" && { attention_types: [[["global"], layers]] }),
  // Its width is not free: twice the hidden state in all models.
  ...(name === "mamba" && { intermediate_size: 2 * HIDDEN }),
})

/** A config for as many blocks, of such a width, that their linears hold the same as `BLOCKS` of `WEIGHTS`. */
export const config = (name: string, family: Family.Family<any>) => {
  const decode = Schema.decodeUnknownSync(family.config)
  const read = (width: number) => decode(spelled(name, width, 1))
  const weights = (width: number) => Blocks.operationsOf(family, read(width), LENGTH, MET).linears / 2
  const perColumn = (weights(128) - weights(64)) / 64
  // Some families have no choice of width.
  const width = perColumn === 0 ? 64 : 64 * Math.round(1 + (WEIGHTS - weights(64)) / perColumn / 64)
  const raw = spelled(name, width, Math.round((BLOCKS * WEIGHTS) / weights(width)))
  return { raw, config: decode(raw) }
}

/** A pass over so many batches of 4 x 512 tokens. */
export const pass = (model: Model.Model<never>, batches: number) =>
  Blocks.pass(model, Blocks.sequences(batches * TOGETHER, LENGTH, model.shape.vocabulary), TOGETHER * LENGTH)
