/**
 * A family of architectures: how its config.json reads, and how embedding, block and head are computed. One file per
 * family, named by the hub's `model_type`. Weight names are those of the checkpoint, so the catalog of tensors a
 * checkpoint must have is read off the description itself.
 */
import type * as Schema from "effect/Schema"
import { Block, type Heads, plain } from "../onnx/Block.ts"
import type { Value } from "../onnx/Graph.ts"

/** What the rest of the product needs to know of a config, whatever the family calls it. */
export interface Shape {
  readonly layers: number
  readonly hidden: number
  readonly vocabulary: number
  readonly heads: Heads
  /** Longest sequence the positions are made for. */
  readonly context: number
}

export interface Family<C> {
  /** config.json; keys it does not name are ignored. */
  readonly config: Schema.Codec<C, any>
  readonly shape: (config: C) => Shape
  /** Rotary tables for positions 0 … length-1, each [length, dim / 2]. `dynamic`: they depend on the length. */
  readonly rope: (config: C, length: number) => { readonly cos: Float32Array; readonly sin: Float32Array }
  /** Do the tables of a sequence of this length differ from those of a shorter one? Then nothing can be cached. */
  readonly ropeDependsOnLength: (config: C, length: number) => boolean
  /** `tokens` [batch, sequence] int32 -> hidden state [batch, sequence, hidden]. */
  readonly embed: (b: Block, config: C, tokens: Value) => Value
  /** One decoder block: hidden state -> hidden state, both [batch, sequence, hidden]. */
  readonly block: (b: Block, config: C, hidden: Value) => Value
  /** Rows of the last hidden state, [rows, hidden] -> logits [rows, vocabulary]. */
  readonly head: (b: Block, config: C, hidden: Value) => Value
  /** Where a block's weights are in the checkpoint: `model.layers.3.` */
  readonly prefix: (layer: number) => string
  /** Tensors that real checkpoints carry and nothing needs (stored rotary buffers, tied heads), by name. */
  readonly ignored: (config: C) => RegExp
}
export const make = <C>(family: Family<C>): Family<C> => family

/** The only thing asked of a family's module at run time. */
export const isFamily = (u: unknown): u is Family<unknown> =>
  typeof u === "object" && u !== null && "block" in u && "head" in u && "config" in u

/** A weight matrix of the model: where it is, what it is called in the checkpoint, and its shape. */
export interface Site {
  /** `3.self_attn.q_proj`; `lm_head` and `model.embed_tokens` outside the blocks. */
  readonly site: string
  readonly kind: "linear" | "embedding"
  readonly layer: number | undefined
  /** `self_attn.q_proj` */
  readonly name: string
  readonly tensor: string
  readonly shape: readonly [rows: number, columns: number]
  /** The site of the op that makes its input: `input_layernorm`. */
  readonly fedBy: string | undefined
}
/** Everything known of a model from its config alone. */
export interface Outline {
  readonly shape: Shape
  /** Every tensor the checkpoint must hold, and nothing else. */
  readonly catalog: ReadonlyMap<string, ReadonlyArray<number>>
  readonly sites: ReadonlyArray<Site>
  readonly ignored: RegExp
}

/** Draw all three graphs once, with no hooks, and read off what they ask for. */
export const outline = <C>(family: Family<C>, config: C): Outline => {
  const shape = family.shape(config)
  const catalog = new Map<string, ReadonlyArray<number>>()
  const sites: Array<Site> = []
  const read = (b: Block, layer: number | undefined) => {
    const prefix = layer === undefined ? "" : family.prefix(layer)
    for (const weight of b.weights) catalog.set(prefix + weight.name, weight.shape)
    for (const { site, weight, shape } of b.tables) {
      sites.push({ site, kind: "embedding", layer, name: site, tensor: prefix + weight, shape, fedBy: undefined })
    }
    for (const { site, weight, shape, input } of b.linears) {
      sites.push({
        site: layer === undefined ? site : `${layer}.${site}`,
        kind: "linear",
        layer,
        name: site,
        tensor: prefix + weight,
        shape,
        fedBy: input.from?.site,
      })
    }
  }
  const embed = new Block(plain)
  family.embed(embed, config, embed.graph.input("tokens", "int32", ["batch", "sequence"]))
  read(embed, undefined)
  const block = new Block(plain)
  family.block(block, config, block.graph.input("hidden", "float32", ["batch", "sequence", shape.hidden]))
  for (let layer = 0; layer < shape.layers; layer++) read(block, layer)
  const head = new Block(plain)
  family.head(head, config, head.graph.input("hidden", "float32", ["rows", shape.hidden]))
  read(head, undefined)
  return { shape, catalog, sites, ignored: family.ignored(config) }
}
