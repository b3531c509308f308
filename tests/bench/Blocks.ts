/** Decoder blocks with random weights, run as an evaluation runs them: of a small Llama, or of any family. */
import * as Effect from "effect/Effect"
import * as Forward from "../../src/compute/Forward.ts"
import * as Batch from "../../src/compute/Batch.ts"
import * as Runner from "../../src/compute/Runner.ts"
import * as Model from "../../src/compute/Model.ts"
import { Pool } from "../../src/compute/Pool.ts"
import * as Slab from "../../src/compute/Slab.ts"
import * as Random from "../../src/math/Random.ts"
import * as Family from "../../src/models/Family.ts"
import llama from "../../src/models/llama.ts"
import { Graph } from "../../src/onnx/Graph.ts"

/** The shape of SmolLM2-135M. */
export const config = {
  hidden_size: 576,
  intermediate_size: 1536,
  num_hidden_layers: 30,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  vocab_size: 49_152,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
  hidden_act: "silu" as const,
  tie_word_embeddings: true,
  attention_bias: false,
  mlp_bias: false,
}
export type Config = typeof config

/** Uniform in ±0.05. */
export const noise = (values: Float32Array, seed: bigint): void => {
  const random = Random.make(seed)
  for (let i = 0; i < values.length; i++) values[i] = random.uint32() * (0.1 / 2 ** 32) - 0.05
}

type Quantizers = Pick<Model.Model<never>, "activations" | "keyValue">

/** A model whose tensors are noise in memory; tensors of one size share it. */
export const modelOf = <C>(family: Family.Family<C>, config: C, quantizers: Quantizers): Model.Model<never> => {
  const { catalog, shape, transposed } = Family.outline(family, config)
  const made = new Map<number, SharedArrayBuffer>()
  const buffer = (elements: number) => {
    const known = made.get(elements)
    if (known) return known
    const fresh = new SharedArrayBuffer(4 * elements)
    noise(new Float32Array(fresh), BigInt(elements))
    made.set(elements, fresh)
    return fresh
  }
  return {
    family: family as Family.Family<any>,
    config,
    shape,
    ...quantizers,
    recipe: (tensor) => {
      const stored = catalog.get(tensor)!
      const dims = transposed.has(tensor) ? stored.toReversed() : stored
      const data = { buffer: buffer(Slab.size(dims)) }
      return Effect.succeed({ dims, recipe: { kind: "plain", tensor, dtype: "F32", data, transforms: [] } })
    },
  }
}
export const model = (config: Config, quantizers: Quantizers): Model.Model<never> => modelOf(llama, config, quantizers)

const grid = (bits: number) => ({ bits, symmetric: false, range: "fixed" as const })

/** Fake-quantizers for all linears (dynamic, 8 bits) and caches (4 bits, one scale per head) of the blocks. */
export const a8kv4 = (config: Config): Quantizers => {
  const { shape, sites } = Family.outline(llama, config)
  const linears = sites.filter(({ kind, layer }) => kind === "linear" && layer !== undefined)
  const activation = { kind: "dynamic" as const, ...grid(8) }
  const cache = { keys: grid(4), values: grid(4), group: Family.heads(shape)!.dim, point: "after-rope" as const }
  return {
    activations: Object.fromEntries(linears.map(({ site }) => [site, activation])),
    keyValue: Object.fromEntries(Array.from({ length: shape.layers }, (_, layer) => [layer, cache])),
  }
}

/** `count` sequences of `length` random tokens. */
export const sequences = (count: number, length: number, vocabulary: number): ReadonlyArray<Int32Array> => {
  const random = Random.make(2n)
  return Array.from({ length: count }, () => Int32Array.from({ length }, () => random.below(vocabulary)))
}

/**
 * Floating-point operations of the linears of one block on one token, and of attention at the mean position. Of its
 * experts a token meets `met`, 1 where there are none.
 */
export const operationsOf = <C>(family: Family.Family<C>, config: C, length: number, met: number) => {
  const { shape, sites } = Family.outline(family, config)
  const count = family.experts?.count(config) ?? 0
  const experts = Array.from({ length: count }, (_, expert) => family.experts!.prefix(expert))
  const share = (name: string) => (experts.some((prefix) => name.startsWith(prefix)) ? met / count : 1)
  const linears = sites.filter(({ kind, layer }) => kind === "linear" && layer === 0)
  const { dim, query } = Family.heads(shape) ?? { dim: 0, query: 0 }
  return {
    linears: linears.reduce((sum, { name, shape: [rows, columns] }) => sum + 2 * rows * columns * share(name), 0),
    attention: 2 * 2 * query * dim * ((length + 1) / 2),
  }
}
export const operations = (config: Config, length: number) => operationsOf(llama, config, length, 1)

/** Bytes of one block's weights in float32, and of the widest moment of a block on so many tokens. */
export const leastMemory = (config: Config, tokens: number): number => {
  const { sites } = Family.outline(llama, config)
  const block = sites.reduce((sum, { layer, shape }) => (layer === 0 ? sum + 4 * shape[0] * shape[1] : sum), 0)
  // The residual stream in and out, the norm's output, and gate and up side by side.
  return block + 4 * tokens * (3 * config.hidden_size + 2 * config.intermediate_size)
}

/** A pass over batches of sequences through all blocks, weights in memory. */
export const pass = Effect.fnUntraced(function* (
  model: Model.Model<never>,
  tokens: ReadonlyArray<Int32Array>,
  tokensPerBatch: number,
) {
  const runner = Runner.make(model, true)
  const lengths = tokens.map(({ length }) => length)
  const groups = Batch.batches(lengths, tokensPerBatch, Runner.tableKey(model))
  return Forward.prefill(runner, tokens, groups, undefined, () => Effect.void)
})

/** Milliseconds that an effect takes. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const start = performance.now()
    yield* effect
    return performance.now() - start
  })

/** Milliseconds of each pass at its fastest. They take turns, so that a disturbance hits all of them. */
export const race = <E, R>(rounds: number, passes: ReadonlyArray<Effect.Effect<unknown, E, R>>) =>
  Effect.gen(function* () {
    const best = passes.map(() => Infinity)
    for (let round = 0; round <= rounds; round++) {
      for (const [i, pass] of passes.entries()) {
        const time = yield* timed(pass)
        // The first round opens sessions and loads weights.
        if (round > 0) best[i] = Math.min(best[i]!, time)
      }
    }
    return best
  })

const filled = (dims: ReadonlyArray<number>): Slab.Slab => {
  const slab = Slab.make("float32", dims)
  noise(Slab.floats(slab), 3n)
  return slab
}

/** Products [rows, size] x [size, size]ᵀ, `each` of them on every worker at once. */
export const products = (rows: number, size: number, each: number) => {
  const graph = new Graph()
  const a = graph.input("a", "float32", [rows, size])
  const b = graph.input("b", "float32", [size, size])
  graph.output("out", graph.op("Gemm", [a, b], { transB: 1 }), "float32", [rows, size])
  const program = Model.program(graph)
  const feeds = { a: filled([rows, size]), b: filled([size, size]) }
  return Effect.gen(function* () {
    const pool = yield* Pool
    const outs = Array.from({ length: pool.size }, () => Slab.make("float32", [rows, size]))
    const one = (out: Slab.Slab) => Effect.replicateEffect(Model.run(program, feeds, { out }), each, { discard: true })
    return {
      operations: 2 * rows * size * size * each * pool.size,
      pass: Effect.forEach(outs, one, { concurrency: "unbounded", discard: true }),
    }
  })
}
