/**
 * Running a model over many sequences, one block at a time: all batches go through block 0, then block 1, … Memory
 * holds the weights of two blocks (one in use, one on its way) and the hidden states, never the model.
 *
 * A sequence's numbers do not depend on its batch: padding stands to the right of it, where causal attention cannot
 * see, and every product is computed row by row in the same order whatever the number of rows.
 */
import * as Effect from "effect/Effect"
import { paddedDim } from "../onnx/Block.ts"
import type { Batch } from "./Batch.ts"
import * as Model from "./Model.ts"
import { Pool, type WorkerError } from "./Pool.ts"
import type { Runner, Step, Weights } from "./Runner.ts"
import * as Slab from "./Slab.ts"

/**
 * What a layer keeps of the sequences of a batch, by name. Keys and values are [batch, heads, capacity, dim] and each
 * pass appends to them; a recurrent state [batch, …] is replaced by each pass.
 */
export type LayerCache = { readonly [name: string]: Slab.Slab }

/** Floats that one sequence with room for `capacity` tokens takes in one layer, by name. */
const cacheDims = <E>({ shape: { memory } }: Model.Model<E>, capacity: number) => {
  if (memory.kind === "recurrent") return memory.states
  const { dim, keyValue } = memory.heads
  const dims = [keyValue, capacity, paddedDim(dim)]
  return { key: dims, value: dims }
}

/** Bytes that the caches of one sequence take with room for `capacity` tokens. */
export const cacheBytes = <E>(model: Model.Model<E>, capacity: number): number =>
  4 * model.shape.layers * Object.values(cacheDims(model, capacity)).reduce((sum, dims) => sum + Slab.size(dims), 0)

export const makeCache = <E>(model: Model.Model<E>, batch: number, capacity: number): ReadonlyArray<LayerCache> =>
  Array.from({ length: model.shape.layers }, () =>
    Object.fromEntries(
      Object.entries(cacheDims(model, capacity)).map(([name, dims]) => [name, Slab.make("float32", [batch, ...dims])]),
    ),
  )

/** What a pass over a batch is fed besides weights and hidden state. */
interface Frame {
  readonly feeds: { readonly [name: string]: Slab.Slab }
  /** Where the keys and values of the pass go: after the `past` tokens of each sequence. */
  readonly cache: ReadonlyArray<LayerCache> | undefined
  readonly past: ReadonlyArray<number>
  /** What one layer at a time gives to the cache: keys and values [batch, width, heads x dim], or the states. */
  readonly fresh: LayerCache
}
interface Flow {
  readonly frame: Frame
  hidden: Slab.Slab
  spare: Slab.Slab
  /** What the block has put aside for its experts, by graph input. */
  readonly carried: { [input: string]: Slab.Slab }
}

/** Feeds that say where each sequence stands: `past` tokens of it are in the cache, `valid` of `width` are new. */
const frame = <E>(
  { model, tables }: Runner<E>,
  past: ReadonlyArray<number>,
  valid: ReadonlyArray<number>,
  width: number,
  cache: ReadonlyArray<LayerCache> | undefined,
): Frame => {
  const count = past.length
  const total = Math.max(...past) + width
  const { memory } = model.shape
  const zeros = (dims: ReadonlyArray<number>) => Slab.make("float32", [count, ...dims])
  const slabs = (prefix: string, dims: { readonly [name: string]: ReadonlyArray<number> }) =>
    Object.fromEntries(Object.entries(dims).map(([name, own]) => [prefix + name, zeros(own)]))
  const { dim, keyValue } = memory.kind === "keyValue" ? memory.heads : { dim: 0, keyValue: 0 }
  const rows = [width, keyValue * paddedDim(dim)]
  return {
    cache,
    past,
    fresh:
      cache === undefined
        ? {}
        : memory.kind === "recurrent"
          ? slabs("", memory.states)
          : slabs("", { key: rows, value: rows }),
    feeds: {
      ...tables(total),
      positions: Slab.int64s([count, width], (i) => past[Math.floor(i / width)]! + (i % width)),
      valid: Slab.ints([count], valid),
      // Padding may pass for tokens: nothing before it can see it, and what follows overwrites it in the cache.
      lengths: Slab.ints(
        [count],
        past.map((p) => p + width - 1),
      ),
      total: Slab.ints([], [total]),
      ...(memory.kind === "recurrent"
        ? slabs("past.", memory.states)
        : { pastKey: zeros([keyValue, 0, paddedDim(dim)]), pastValue: zeros([keyValue, 0, paddedDim(dim)]) }),
    },
  }
}

/** Tokens [batch, width] -> their embedding, `out`. */
const embed = <E>({ embedding }: Runner<E>, weights: Weights, tokens: Int32Array, flow: Flow): Model.Call => ({
  program: embedding,
  feeds: { ...weights, ...flow.frame.feeds, tokens: Slab.ints(flow.hidden.dims.slice(0, 2), tokens) },
  fetches: { out: flow.hidden },
})

/** One block or expert, after which the flow's hidden state is what it will have written. */
const advance = (
  flow: Flow,
  { program, unit }: Step,
  weights: Weights,
  extra: { readonly [output: string]: Slab.Slab },
): Model.Call => {
  const { hidden, spare } = flow
  ;[flow.hidden, flow.spare] = [spare, hidden]
  const { cache, feeds, fresh, past } = flow.frame
  for (const [name, columns] of program.carries)
    flow.carried[`carry.${name}`] ??= Slab.make("float32", [...hidden.dims.slice(0, 2), columns])
  const put = Object.fromEntries(
    [...program.carries.keys()].map((name) => [`carry.${name}`, flow.carried[`carry.${name}`]!]),
  )
  const call = {
    program,
    feeds: { ...weights, ...feeds, ...flow.carried, hidden },
    fetches: { out: spare, ...put, ...extra },
  }
  if (unit.expert !== undefined)
    return { ...call, feeds: { ...call.feeds, expert: Slab.int64s([], () => unit.expert!) } }
  const held = cache?.[unit.layer]
  if (held === undefined) return call
  // The first pass has nothing to read from the cache.
  const resumed = past.some((n) => n > 0)
  if (held["key"] === undefined) {
    const named = (prefix: string, slabs: LayerCache) =>
      Object.fromEntries(Object.entries(slabs).map(([name, slab]) => [prefix + name, slab]))
    return {
      ...call,
      feeds: resumed ? { ...call.feeds, ...named("past.", held) } : call.feeds,
      fetches: { ...call.fetches, ...named("state.", fresh) },
      replaces: Object.entries(held).map(([name, to]) => ({ from: fresh[name]!, to })),
    }
  }
  return {
    ...call,
    feeds: resumed ? { ...call.feeds, pastKey: held["key"], pastValue: held["value"]! } : call.feeds,
    fetches: { ...call.fetches, ...fresh },
    appends: Object.entries(held).map(([name, to]) => ({ rows: fresh[name]!, cache: to, at: past })),
  }
}

/** All flows through all blocks. `extra` are more outputs of a step and flow, to be fetched in the same run. */
const through = <E>(
  runner: Runner<E>,
  flows: ReadonlyArray<Flow>,
  extra: (step: Step, flow: number) => { readonly [output: string]: Slab.Slab },
  onStep: (step: Step) => Effect.Effect<void>,
) =>
  Effect.gen(function* () {
    const { size } = yield* Pool
    const { steps } = runner
    const keys = steps.map(({ program }) => program.key)
    const open = flows.length - size
    let weights = yield* runner.weights(steps[0]!)
    for (const [s, step] of steps.entries()) {
      const ends = !runner.resident && keys.lastIndexOf(step.program.key) === s
      const current = weights
      const compute = Effect.forEach(
        flows,
        (flow, f) => Model.runAll([{ ...advance(flow, step, current, extra(step, f)), last: ends && f >= open }]),
        { concurrency: size, discard: true },
      )
      const next = steps[s + 1]
      const upcoming = next === undefined ? Effect.succeed(current) : runner.weights(next)
      ;[, weights] = yield* Effect.all([compute, upcoming], { concurrency: "unbounded" })
      yield* runner.done(current)
      yield* onStep(step)
    }
  })

/**
 * Right-padded token rows of a batch. Nothing sees padding but with weight 0; it repeats the sequence's last token, lest
 * what is not finite in another token's embedding enters as 0 x NaN.
 */
const rowsOf = ({ items, width }: Batch, sequences: ReadonlyArray<Int32Array>): Int32Array => {
  const rows = new Int32Array(items.length * width)
  items.forEach((item, i) => {
    const tokens = sequences[item]!
    rows.fill(tokens.at(-1)!, i * width, (i + 1) * width)
    rows.set(tokens, i * width)
  })
  return rows
}

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
        const dims = [batch.items.length, batch.width, runner.model.shape.hidden]
        const zeros = batch.items.map(() => 0)
        const flow: Flow = {
          frame: frame(runner, zeros, batch.lengths, batch.width, caches?.[i]),
          hidden: Slab.make("float32", dims),
          spare: Slab.make("float32", dims),
          carried: {},
        }
        yield* Model.runAll([embed(runner, weights, rows[i]!, flow)])
        return flow
      }),
    )
    yield* runner.done(weights)
    return flows
  })

/**
 * Whole sequences through all blocks. Gives each batch's last hidden state [batch, width, hidden] (before the final
 * norm); with `caches`, also fills them (one per batch).
 */
export const prefill = <E>(
  runner: Runner<E>,
  sequences: ReadonlyArray<Int32Array>,
  groups: ReadonlyArray<Batch>,
  caches: ReadonlyArray<ReadonlyArray<LayerCache>> | undefined,
  onStep: (step: Step) => Effect.Effect<void>,
): Effect.Effect<ReadonlyArray<Slab.Slab>, E | WorkerError, Pool> =>
  Effect.gen(function* () {
    const flows = yield* begin(runner, sequences, groups, caches)
    yield* through(runner, flows, () => ({}), onStep)
    return flows.map((flow) => flow.hidden)
  })

/**
 * Whole sequences through all blocks of a runner whose graphs have further outputs: `fetches` makes the slabs for those
 * of a step for a batch of so many sequences, `seen` gets them, of all batches, after each step.
 */
export const observe = <E>(
  runner: Runner<E>,
  sequences: ReadonlyArray<Int32Array>,
  groups: ReadonlyArray<Batch>,
  watch: {
    readonly fetches: (step: Step, count: number) => { readonly [output: string]: Slab.Slab }
    readonly seen: (step: Step, results: ReadonlyArray<{ readonly [output: string]: Slab.Slab }>) => Effect.Effect<void>
  },
): Effect.Effect<void, E | WorkerError, Pool> =>
  Effect.gen(function* () {
    const flows = yield* begin(runner, sequences, groups, undefined)
    // Made once for each kind of step and used again by the next of that kind.
    const made = new Map<string, ReadonlyArray<{ readonly [output: string]: Slab.Slab }>>()
    const results = (step: Step) => {
      const known = made.get(step.program.key) ?? groups.map(({ items }) => watch.fetches(step, items.length))
      made.set(step.program.key, known)
      return known
    }
    yield* through(
      runner,
      flows,
      (step, flow) => results(step)[flow]!,
      (step) => watch.seen(step, results(step)),
    )
  })

/**
 * One more token for every sequence of every batch: `past` tokens of each are in the caches. Gives the hidden states
 * [batch, 1, hidden].
 */
export const decode = <E>(
  runner: Runner<E>,
  batches: ReadonlyArray<{
    readonly tokens: Int32Array
    readonly past: ReadonlyArray<number>
    readonly cache: ReadonlyArray<LayerCache>
  }>,
): Effect.Effect<ReadonlyArray<Slab.Slab>, E | WorkerError, Pool> =>
  Effect.gen(function* () {
    const { size } = yield* Pool
    const begun = batches.map(({ cache, past, tokens }) => {
      const dims = [tokens.length, 1, runner.model.shape.hidden]
      const flow: Flow = {
        frame: frame(
          runner,
          past,
          past.map(() => 1),
          1,
          cache,
        ),
        hidden: Slab.make("float32", dims),
        spare: Slab.make("float32", dims),
        carried: {},
      }
      return { flow, tokens }
    })
    const embedding = yield* runner.embeddingWeights(begun.map(({ tokens }) => tokens))
    const start = ({ flow, tokens }: (typeof begun)[number]) => embed(runner, embedding, tokens, flow)
    if (runner.resident) {
      // All weights are at hand: a batch goes through the whole model in one call.
      const weights = yield* Effect.forEach(runner.steps, runner.weights)
      yield* Effect.forEach(
        begun,
        (one) => Model.runAll([start(one), ...runner.steps.map((step, s) => advance(one.flow, step, weights[s]!, {}))]),
        { concurrency: size, discard: true },
      )
    } else {
      yield* Effect.forEach(begun, (one) => Model.runAll([start(one)]), { concurrency: size, discard: true })
      yield* runner.done(embedding)
      yield* through(
        runner,
        begun.map(({ flow }) => flow),
        () => ({}),
        () => Effect.void,
      )
    }
    return begun.map(({ flow }) => flow.hidden)
  })
