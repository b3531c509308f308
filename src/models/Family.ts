/**
 * A family of architectures: how its config.json reads, and how embedding, block and head are computed. One file per
 * family, named by the hub's `model_type`. Weight names are those of the checkpoint, so the catalog of tensors a
 * checkpoint must have is read off the description itself.
 */
import type * as Schema from "effect/Schema"
import type { Transform } from "../math/Transform.ts"
import { Block, type Heads, type Hooks, plain, type StateDims } from "../onnx/Block.ts"
import type { Value } from "../onnx/Graph.ts"

/** What a layer keeps of each sequence for the tokens to come. */
export type Memory =
  /** A key and a value per token. */
  | { readonly kind: "keyValue"; readonly heads: Heads }
  /** States of fixed size, by name, without the batch: `{ conv: [256, 3], ssm: [256, 16] }`. */
  | { readonly kind: "recurrent"; readonly states: { readonly [name: string]: ReadonlyArray<number> } }

/** What the rest of the product needs to know of a config, whatever the family calls it. */
export interface Shape {
  readonly layers: number
  readonly hidden: number
  readonly vocabulary: number
  readonly memory: Memory
  /** Longest sequence the positions are made for. */
  readonly context: number
}

/** The heads of a model that keeps keys and values. */
export const heads = ({ memory }: Shape): Heads | undefined => (memory.kind === "keyValue" ? memory.heads : undefined)

/** One row for each position. */
export interface PositionTable {
  readonly columns: number
  /** [length, columns] */
  readonly values: Float32Array
}

/** Sparse experts: each is a graph of its own after the layer's block, with only its own weights in memory. */
export interface Experts<C> {
  readonly count: (config: C) => number
  /** Where the weights of an expert are, after the layer's prefix: `block_sparse_moe.experts.5.` */
  readonly prefix: (expert: number) => string
  /**
   * Hidden state -> hidden state with this expert's share added. What the block has put aside (`b.carry`) is there as
   * `b.carried`, and which expert it is as `b.expert()`.
   */
  readonly block: (b: Block, config: C, hidden: Value) => Value
}

/** A tensor of the catalog, and how it comes from a tensor of a GGUF file. */
export interface GgufTensor {
  readonly name: string
  /** What undoes the converter's rearrangements, in order. */
  readonly transforms?: ReadonlyArray<Transform>
  /** Which of so many equal parts along the first axis: an expert of a stack. */
  readonly part?: { readonly index: number; readonly of: number }
}

/** How llama.cpp's GGUF files hold the models of a family. */
export interface Gguf<C> {
  /** Is a file with these key-value pairs of this family? Told mostly by `general.architecture`. */
  readonly is: (metadata: GgufMetadata) => boolean
  /** What config.json would say; `model_type` is not needed. `floats` are a small tensor's values, if it is there. */
  readonly config: (
    metadata: GgufMetadata,
    floats: (tensor: string) => Float32Array | undefined,
    shapes: ReadonlyMap<string, ReadonlyArray<number>>,
  ) => { readonly [key: string]: unknown }
  /** What the catalog has of a tensor of the file; nothing for one that the model does not need. */
  readonly tensors: (name: string, config: C) => ReadonlyArray<GgufTensor> | undefined
}
/** Key-value pairs of a GGUF file, keys whole: `llama.block_count`. */
export type GgufMetadata = ReadonlyMap<string, unknown>

/** A config.json as it is written. */
export type Raw = { readonly [key: string]: unknown }

export interface Family<C> {
  /** Published checkpoints that are of it, for lists. */
  readonly covers: string
  /**
   * Other model types that are of it, as the code the first weights came with called them: what makes their config.json
   * the family's. Its own name, where some spell it in an older way. What cannot be told ends in an Error with the key.
   */
  readonly aliases?: { readonly [modelType: string]: (config: Raw) => Raw }
  /** config.json; keys it does not name are ignored. */
  readonly config: Schema.Codec<C, any>
  readonly shape: (config: C) => Shape
  /** Tables by graph input, for positions 0 … length-1: rotary `cos` and `sin`, each [length, dim / 2]. */
  readonly tables?: (config: C, length: number) => { readonly [input: string]: PositionTable }
  /**
   * Sequences of different keys need different tables, and what is cached at one key is wrong at another; 0 by default
   * for all lengths.
   */
  readonly tableKey?: (config: C, length: number) => number
  /** `tokens` [batch, sequence] int32 -> hidden state [batch, sequence, hidden]. */
  readonly embed: (b: Block, config: C, tokens: Value) => Value
  /** One decoder block: hidden state -> hidden state, both [batch, sequence, hidden]. */
  readonly block: (b: Block, config: C, hidden: Value, layer: number) => Value
  readonly experts?: Experts<C>
  /** Rows of the last hidden state, [rows, hidden] -> logits [rows, vocabulary]. */
  readonly head: (b: Block, config: C, hidden: Value) => Value
  /** Where a block's weights are in the checkpoint: `model.layers.3.` */
  readonly prefix: (layer: number) => string
  /** Tensors that real checkpoints carry and nothing needs (stored rotary buffers, tied heads), by name. */
  readonly ignored: (config: C) => RegExp
  /** The catalog's name of a tensor that some checkpoints call otherwise. */
  readonly rename?: (name: string) => string
  /** The chat template (Jinja) of published checkpoints that come without one. */
  readonly chatTemplate?: (config: C) => string | undefined
  readonly gguf?: Gguf<C>
}
export const make = <C>(family: Family<C>): Family<C> => family

/** The only thing asked of a family's module at run time. */
export const isFamily = (u: unknown): u is Family<unknown> =>
  typeof u === "object" && u !== null && "block" in u && "head" in u && "config" in u

/** What is drawn as one graph and has its weights in memory at one time: a decoder block, or one expert of it. */
export interface Unit {
  readonly layer: number
  readonly expert: number | undefined
  /** What the names of its weights begin with in the checkpoint. */
  readonly tensors: string
  /** What the names of its sites begin with: `3.` */
  readonly sites: string
  readonly draw: (b: Block, hidden: Value) => Value
}

/** All blocks and their experts, in the order in which they run. */
export const units = <C>(family: Family<C>, config: C): ReadonlyArray<Unit> => {
  const { experts } = family
  return Array.from({ length: family.shape(config).layers }, (_, layer): ReadonlyArray<Unit> => {
    const unit = (prefix: string, expert: number | undefined, draw: Unit["draw"]): Unit => ({
      layer,
      expert,
      tensors: family.prefix(layer) + prefix,
      sites: `${layer}.${prefix}`,
      draw,
    })
    return [
      unit("", undefined, (b, hidden) => family.block(b, config, hidden, layer)),
      ...Array.from({ length: experts?.count(config) ?? 0 }, (_, e) =>
        unit(experts!.prefix(e), e, (b, hidden) => experts!.block(b, config, hidden)),
      ),
    ]
  }).flat()
}

/** Several times what the deepest models have. */
export const MOST_LAYERS = 1024
/** Likewise: nothing is drawn of a config that asks for more. */
const MOST = { graphs: 16_384, heads: 131_072, channels: 65_536 }

/** Which number of a config is beyond all models, if one is: a damaged file must not keep a machine busy. */
export const excess = <C>(family: Family<C>, config: C): string | undefined => {
  const { layers, memory } = family.shape(config)
  const graphs = layers * (1 + (family.experts?.count(config) ?? 0))
  const heads = memory.kind === "keyValue" ? memory.heads : { query: 1, keyValue: 1, dim: 1 }
  const found = [
    ["layers", layers, MOST_LAYERS],
    ["layers and experts of them", graphs, MOST.graphs],
    ["heads in all layers", layers * (heads.query + heads.keyValue), MOST.heads],
    ["channels of a head", heads.dim, MOST.channels],
  ] as const
  const beyond = found.find(([, count, most]) => count > most)
  return beyond === undefined ? undefined : `asks for ${beyond[1]} ${beyond[0]}; at most ${beyond[2]} are drawn`
}

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
  /** Quantized only where it is selected by name: heads, embeddings, and what routes tokens to experts. */
  readonly byName: boolean
}
/** A recurrent state that each token leaves to the next. */
export interface State {
  /** `3.ssm` */
  readonly site: string
  readonly layer: number
  readonly dims: StateDims
}
/** Everything known of a model from its config alone. */
export interface Outline {
  readonly shape: Shape
  /** Every tensor the checkpoint must hold, and nothing else. */
  readonly catalog: ReadonlyMap<string, ReadonlyArray<number>>
  /** Matrices that the checkpoint stores as [in, out]; the catalog has them so. */
  readonly transposed: ReadonlySet<string>
  readonly sites: ReadonlyArray<Site>
  readonly states: ReadonlyArray<State>
  readonly ignored: RegExp
  readonly rename: (name: string) => string
}

/** Draw all graphs once, with no hooks, and read off what they ask for. Time and memory are by `excess`, not by sizes. */
export const outline = <C>(family: Family<C>, config: C): Outline => {
  const shape = family.shape(config)
  const catalog = new Map<string, ReadonlyArray<number>>()
  const stored = new Set<string>()
  const sites: Array<Site> = []
  const read = (b: Block, unit: Pick<Unit, "layer" | "tensors" | "sites"> | undefined) => {
    const { layer, sites: prefix = "", tensors = "" } = unit ?? {}
    for (const { name, shape, transposed } of b.weights) {
      catalog.set(tensors + name, transposed ? shape.toReversed() : shape)
      if (transposed) stored.add(tensors + name)
    }
    // Without the layer, a site has the same name in all of them.
    const nameOf = (site: string) => (layer === undefined ? site : (prefix + site).slice(`${layer}.`.length))
    for (const { site, weight, shape } of b.tables) {
      const tensor = tensors + weight
      sites.push({
        site: prefix + site,
        kind: "embedding",
        layer,
        name: nameOf(site),
        tensor,
        shape,
        fedBy: undefined,
        byName: true,
      })
    }
    for (const { byName, input, shape, site, weight } of b.linears) {
      sites.push({
        site: prefix + site,
        kind: "linear",
        layer,
        name: nameOf(site),
        tensor: tensors + weight,
        shape,
        fedBy: input.from?.site,
        byName: byName || layer === undefined,
      })
    }
  }
  const states = new Map<string, State>()
  const embed = new Block(plain)
  family.embed(embed, config, embed.graph.input("tokens", "int32", ["batch", "sequence"]))
  read(embed, undefined)
  for (const unit of units(family, config)) {
    const watching: Hooks = {
      ...plain,
      // A state has one site, however many steps of it are drawn.
      state: (_b, name, state, dims) => {
        const site = unit.sites + name
        states.set(site, { site, layer: unit.layer, dims })
        return state
      },
    }
    const block = new Block(watching)
    unit.draw(block, block.graph.input("hidden", "float32", ["batch", "sequence", shape.hidden]))
    read(block, unit)
  }
  const head = new Block(plain)
  family.head(head, config, head.graph.input("hidden", "float32", ["rows", shape.hidden]))
  read(head, undefined)
  return {
    shape,
    catalog,
    transposed: stored,
    sites,
    states: [...states.values()],
    ignored: family.ignored(config),
    rename: family.rename ?? ((name) => name),
  }
}
