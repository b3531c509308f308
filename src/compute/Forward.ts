/**
 * Running a model over many sequences, one block at a time: all batches go through block 0, then block 1, … Memory
 * holds the weights of two blocks (one in use, one on its way) and the hidden states, never the model.
 *
 * A sequence's numbers do not depend on its batch: padding stands to the right of it, where causal attention cannot
 * see, and every product is computed row by row in the same order whatever the number of rows.
 */
import * as Effect from "effect/Effect"
import { paddedDim } from "../onnx/Block.ts"
import * as Model from "./Model.ts"
import { Pool, type WorkerError } from "./Pool.ts"
import * as Slab from "./Slab.ts"

/** Sequences that go through the model together. `items` are their indices in the caller's list. */
export interface Batch {
  readonly items: ReadonlyArray<number>
  readonly lengths: ReadonlyArray<number>
  /** Tokens of the longest: shorter ones are padded to it. */
  readonly width: number
}

/**
 * Group sequences of similar length, longest first, so that a batch holds at most `tokens` with its padding (one
 * sequence may be longer). Sequences for which `alone` gives different keys never share a batch.
 */
export const batches = (
  lengths: ReadonlyArray<number>,
  tokens: number,
  alone: (length: number) => number,
): ReadonlyArray<Batch> => {
  const order = lengths.map((_, i) => i).toSorted((a, b) => lengths[b]! - lengths[a]! || a - b)
  const groups: Array<Array<number>> = []
  for (const item of order) {
    const group = groups.at(-1)
    const width = group && lengths[group[0]!]!
    if (
      group !== undefined &&
      width !== undefined &&
      (group.length + 1) * width <= tokens &&
      alone(width) === alone(lengths[item]!)
    ) {
      group.push(item)
    } else groups.push([item])
  }
  return groups.map((items) => batch(items, lengths))
}

/**
 * Products of a single row take another path through ONNX Runtime, with other rounding; from two rows on each row's
 * result is the same whatever their number. So nothing is ever computed as a single row.
 */
export const FEWEST_ROWS = 2

export const batch = (items: ReadonlyArray<number>, lengths: ReadonlyArray<number>): Batch => ({
  items,
  lengths: items.map((i) => lengths[i]!),
  width: Math.max(FEWEST_ROWS, ...items.map((i) => lengths[i]!)),
})

/** Do these lengths need rotary tables of their own? 0 for all that do not. */
export const ropeKey =
  <E>({ config, family }: Model.Model<E>) =>
  (length: number): number =>
    family.ropeDependsOnLength(config, length) ? length : 0

/** The cache of one layer, [batch, heads, capacity, dim]; a pass appends to it. */
export interface LayerCache {
  readonly key: Slab.Slab
  readonly value: Slab.Slab
}
export const makeCache = <E>({ shape }: Model.Model<E>, batch: number, capacity: number): ReadonlyArray<LayerCache> => {
  const dims = [batch, shape.heads.keyValue, capacity, paddedDim(shape.heads.dim)]
  return Array.from({ length: shape.layers }, () => ({
    key: Slab.make("float32", dims),
    value: Slab.make("float32", dims),
  }))
}

/** What a pass over a batch is fed besides weights and hidden state. */
interface Frame {
  readonly feeds: { readonly [name: string]: Slab.Slab }
  /** Where the keys and values of the pass go: after the `past` tokens of each sequence. */
  readonly cache: ReadonlyArray<LayerCache> | undefined
  readonly past: ReadonlyArray<number>
  /** The keys and values of one layer at a time, [batch, width, heads x dim]. */
  readonly fresh: LayerCache | undefined
}
interface Flow {
  readonly frame: Frame
  hidden: Slab.Slab
  spare: Slab.Slab
}

/** By graph input. */
type Weights = { readonly [input: string]: Slab.Slab }

/** A model with its graphs drawn, and the weights of its blocks held or streamed. */
export interface Runner<E> {
  readonly model: Model.Model<E>
  /** Are all weights kept in memory? */
  readonly resident: boolean
  readonly embedding: Model.Program
  readonly block: (layer: number) => Model.Program
  /** A block's weights. Held for good if the runner is resident, else loaded at each call. */
  readonly weights: (layer: number) => Effect.Effect<Weights, E | WorkerError, Pool>
  /** The table, of which the rows of these tokens are needed. */
  readonly embeddingWeights: (tokens: ReadonlyArray<Int32Array>) => Effect.Effect<Weights, E | WorkerError, Pool>
  /** To be called once no pass uses these weights any longer. */
  readonly done: (weights: Weights) => Effect.Effect<void, never, Pool>
  /** Rotary tables for at least this many positions, `cos` and `sin` [positions, dim / 2]. */
  readonly rope: (length: number) => { readonly cos: Slab.Slab; readonly sin: Slab.Slab }
}

/** Tables are made for a multiple of this many positions, so that decoding does not make one per step. */
const TABLE = 256

/** `resident` keeps all weights in memory: for decoding, where every step needs all of them. */
export const runner = <E>(model: Model.Model<E>, resident: boolean): Runner<E> => {
  const programs = new Map<string, Model.Program>()
  const byLayer: Array<Model.Program> = []
  for (let layer = 0; layer < model.shape.layers; layer++) {
    const drawn = Model.block(model, Model.layerHooks(model, layer))
    if (!programs.has(drawn.key)) programs.set(drawn.key, drawn)
    byLayer.push(programs.get(drawn.key)!)
  }
  const embedding = Model.embedding(model)
  const held = new Map<string, Weights>()
  const weights = (program: Model.Program, prefix: string, rows?: Int32Array) =>
    Effect.gen(function* () {
      const known = held.get(prefix)
      if (known) return known
      const loaded = yield* Model.load(model, program.weights, prefix, resident ? undefined : rows)
      if (resident) held.set(prefix, loaded)
      return loaded
    })
  const tables = new Map<number, { readonly cos: Slab.Slab; readonly sin: Slab.Slab }>()
  const rope = (length: number) => {
    const { config, family, shape } = model
    const rounded = Math.ceil(length / TABLE) * TABLE
    const rows = family.ropeDependsOnLength(config, rounded) ? length : rounded
    const known = tables.get(rows)
    if (known) return known
    const { cos, sin } = family.rope(config, rows)
    const slab = (values: Float32Array) => Slab.of([rows, shape.heads.dim / 2], values)
    const made = { cos: slab(cos), sin: slab(sin) }
    tables.set(rows, made)
    return made
  }
  return {
    model,
    resident,
    rope,
    embedding,
    block: (layer) => byLayer[layer]!,
    weights: (layer) => weights(byLayer[layer]!, model.family.prefix(layer)),
    embeddingWeights: (tokens) => weights(embedding, "", distinct(tokens)),
    done: (weights) => (resident ? Effect.void : Effect.map(Pool, ({ memory }) => memory.giveBack(weights))),
  }
}

const distinct = (tokens: ReadonlyArray<Int32Array>): Int32Array => {
  const seen = new Set<number>()
  for (const some of tokens) for (const token of some) seen.add(token)
  return Int32Array.from(seen).toSorted()
}

/** Feeds that say where each sequence stands: `past` tokens of it are in the cache, `width` are new. */
const frame = <E>(
  { model, rope }: Runner<E>,
  past: ReadonlyArray<number>,
  width: number,
  cache: ReadonlyArray<LayerCache> | undefined,
): Frame => {
  const count = past.length
  const total = Math.max(...past) + width
  const { dim, keyValue } = model.shape.heads
  const empty = Slab.make("float32", [count, keyValue, 0, paddedDim(dim)])
  const fresh = () => Slab.make("float32", [count, width, keyValue * paddedDim(dim)])
  return {
    cache,
    past,
    fresh: cache && { key: fresh(), value: fresh() },
    feeds: {
      ...rope(total),
      positions: Slab.int64s([count, width], (i) => past[Math.floor(i / width)]! + (i % width)),
      // Padding may pass for tokens: nothing before it can see it, and what follows overwrites it in the cache.
      lengths: Slab.ints(
        [count],
        past.map((p) => p + width - 1),
      ),
      total: Slab.ints([], [total]),
      pastKey: empty,
      pastValue: empty,
    },
  }
}

/** Tokens [batch, width] -> their embedding, `out`. */
const embed = <E>({ embedding }: Runner<E>, weights: Weights, tokens: Int32Array, out: Slab.Slab): Model.Call => ({
  program: embedding,
  feeds: { ...weights, tokens: Slab.ints(out.dims.slice(0, 2), tokens) },
  fetches: { out },
})

/** One block, after which the flow's hidden state is what it will have written. */
const step = (
  flow: Flow,
  layer: number,
  program: Model.Program,
  weights: Weights,
  extra: { readonly [output: string]: Slab.Slab },
): Model.Call => {
  const { hidden, spare } = flow
  const { cache, feeds, fresh, past } = flow.frame
  ;[flow.hidden, flow.spare] = [spare, hidden]
  const call = {
    program,
    feeds: { ...weights, ...feeds, hidden },
    fetches: { out: spare, ...fresh, ...extra },
  }
  const held = cache?.[layer]
  if (held === undefined || fresh === undefined) return call
  return {
    ...call,
    // The first pass has nothing to read from the cache.
    feeds: past.some((n) => n > 0) ? { ...call.feeds, pastKey: held.key, pastValue: held.value } : call.feeds,
    appends: [
      { rows: fresh.key, cache: held.key, at: past },
      { rows: fresh.value, cache: held.value, at: past },
    ],
  }
}

/** All flows through all blocks. `extra` are more outputs of block and flow, to be fetched in the same run. */
const through = <E>(
  runner: Runner<E>,
  flows: ReadonlyArray<Flow>,
  block: (layer: number) => Model.Program,
  extra: (layer: number, flow: number) => { readonly [output: string]: Slab.Slab },
  onBlock: (layer: number) => Effect.Effect<void>,
) =>
  Effect.gen(function* () {
    const { size } = yield* Pool
    const { layers } = runner.model.shape
    const keys = Array.from({ length: layers }, (_, layer) => block(layer).key)
    const open = flows.length - size
    let weights = yield* runner.weights(0)
    for (let layer = 0; layer < layers; layer++) {
      const program = block(layer)
      const ends = !runner.resident && keys.lastIndexOf(program.key) === layer
      const current = weights
      const compute = Effect.forEach(
        flows,
        (flow, f) =>
          Model.runAll([{ ...step(flow, layer, program, current, extra(layer, f)), last: ends && f >= open }]),
        { concurrency: size, discard: true },
      )
      const upcoming = layer + 1 < layers ? runner.weights(layer + 1) : Effect.succeed(current)
      ;[, weights] = yield* Effect.all([compute, upcoming], { concurrency: "unbounded" })
      yield* runner.done(current)
      yield* onBlock(layer)
    }
  })

/** Right-padded token rows of a batch. Padding repeats token 0: nothing sees it. */
const rowsOf = (batch: Batch, sequences: ReadonlyArray<Int32Array>): Int32Array => {
  const rows = new Int32Array(batch.items.length * batch.width)
  batch.items.forEach((item, i) => rows.set(sequences[item]!, i * batch.width))
  return rows
}

/**
 * Whole sequences through all blocks. Gives each batch's last hidden state [batch, width, hidden] (before the final
 * norm); with `caches`, also fills them (one per batch).
 */
export const prefill = <E>(
  runner: Runner<E>,
  sequences: ReadonlyArray<Int32Array>,
  groups: ReadonlyArray<Batch>,
  caches: ReadonlyArray<ReadonlyArray<LayerCache>> | undefined,
  onBlock: (layer: number) => Effect.Effect<void>,
): Effect.Effect<ReadonlyArray<Slab.Slab>, E | WorkerError, Pool> =>
  Effect.gen(function* () {
    const flows = yield* begin(runner, sequences, groups, caches)
    yield* through(runner, flows, runner.block, () => ({}), onBlock)
    return flows.map((flow) => flow.hidden)
  })

const begin = <E>(
  runner: Runner<E>,
  sequences: ReadonlyArray<Int32Array>,
  groups: ReadonlyArray<Batch>,
  caches: ReadonlyArray<ReadonlyArray<LayerCache>> | undefined,
) =>
  Effect.gen(function* () {
    const rows = groups.map((batch) => rowsOf(batch, sequences))
    const weights = yield* runner.embeddingWeights(rows)
    const flows = yield* Effect.forEach(
      groups,
      Effect.fnUntraced(function* (batch, i) {
        const count = batch.items.length
        const hidden = Slab.make("float32", [count, batch.width, runner.model.shape.hidden])
        yield* Model.runAll([embed(runner, weights, rows[i]!, hidden)])
        const zeros = batch.items.map(() => 0)
        const flow: Flow = {
          frame: frame(runner, zeros, batch.width, caches?.[i]),
          hidden,
          spare: Slab.make("float32", hidden.dims),
        }
        return flow
      }),
    )
    yield* runner.done(weights)
    return flows
  })

/**
 * Whole sequences through all blocks, each drawn as `program`: `fetches` makes the slabs for its further outputs for a
 * batch of so many sequences, `seen` gets those of all batches after each block.
 */
export const observe = <E>(
  runner: Runner<E>,
  program: Model.Program,
  sequences: ReadonlyArray<Int32Array>,
  groups: ReadonlyArray<Batch>,
  watch: {
    readonly fetches: (count: number) => { readonly [output: string]: Slab.Slab }
    readonly seen: (
      layer: number,
      results: ReadonlyArray<{ readonly [output: string]: Slab.Slab }>,
    ) => Effect.Effect<void>
  },
): Effect.Effect<void, E | WorkerError, Pool> =>
  Effect.gen(function* () {
    const flows = yield* begin(runner, sequences, groups, undefined)
    const results = groups.map(({ items }) => watch.fetches(items.length))
    const fetches = (_layer: number, flow: number) => results[flow]!
    yield* through(
      runner,
      flows,
      () => program,
      fetches,
      (layer) => watch.seen(layer, results),
    )
  })

/**
 * One more token for every sequence of every batch: `past` tokens of each are in the caches. Gives the hidden states
 * [batch, 1, hidden].
 */
export const decode = <E>(
  runner: Runner<E>,
  steps: ReadonlyArray<{
    readonly tokens: Int32Array
    readonly past: ReadonlyArray<number>
    readonly cache: ReadonlyArray<LayerCache>
  }>,
): Effect.Effect<ReadonlyArray<Slab.Slab>, E | WorkerError, Pool> =>
  Effect.gen(function* () {
    const { size } = yield* Pool
    const { hidden: width, layers } = runner.model.shape
    const begun = steps.map(({ cache, past, tokens }) => {
      const hidden = Slab.make("float32", [tokens.length, 1, width])
      const flow: Flow = { frame: frame(runner, past, 1, cache), hidden, spare: Slab.make("float32", hidden.dims) }
      return { flow, tokens }
    })
    const embedding = yield* runner.embeddingWeights(begun.map(({ tokens }) => tokens))
    const start = ({ flow, tokens }: (typeof begun)[number]) => embed(runner, embedding, tokens, flow.hidden)
    if (runner.resident) {
      // All weights are at hand: a batch goes through the whole model in one call.
      const weights = yield* Effect.forEach(
        Array.from({ length: layers }, (_, layer) => layer),
        runner.weights,
      )
      yield* Effect.forEach(
        begun,
        (one) =>
          Model.runAll([
            start(one),
            ...weights.map((held, layer) => step(one.flow, layer, runner.block(layer), held, {})),
          ]),
        { concurrency: size, discard: true },
      )
    } else {
      yield* Effect.forEach(begun, (one) => Model.runAll([start(one)]), { concurrency: size, discard: true })
      yield* runner.done(embedding)
      yield* through(
        runner,
        begun.map(({ flow }) => flow),
        runner.block,
        () => ({}),
        () => Effect.void,
      )
    }
    return begun.map(({ flow }) => flow.hidden)
  })
