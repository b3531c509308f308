/**
 * Continuing prompts token by token, with each layer's keys and values kept as the model makes them (quantized, where
 * the model quantizes them). All prompts advance together; each one's tokens are those it would get alone.
 */
import * as Effect from "effect/Effect"
import * as Random from "../math/Random.ts"
import * as Sampling from "../math/Sampling.ts"
import * as Forward from "./Forward.ts"
import * as Batch from "./Batch.ts"
import * as Runner from "./Runner.ts"
import * as Model from "./Model.ts"
import { Pool, type WorkerError } from "./Pool.ts"
import * as Slab from "./Slab.ts"

export interface Prompt {
  readonly tokens: Int32Array
  /** Of this prompt's own draws; unused when greedy. */
  readonly seed: bigint
}
export interface Options<E, R> {
  readonly maxTokens: number
  readonly sampling: Sampling.Settings
  /** Asked after each token: which continuations are complete? They keep the token that completed them. */
  readonly finished: (
    continuations: ReadonlyArray<ReadonlyArray<number>>,
  ) => Effect.Effect<ReadonlyArray<boolean>, E, R>
  /** Bytes that the caches of prompts under way may take. */
  readonly memory: number
  readonly onToken: (count: number) => Effect.Effect<void>
}

/** The continuation of each prompt, in order. */
export const generate = <E, E2, R>(
  runner: Runner.Runner<E>,
  prompts: ReadonlyArray<Prompt>,
  options: Options<E2, R>,
): Effect.Effect<ReadonlyArray<Int32Array>, E | E2 | WorkerError, Pool | R> =>
  Effect.gen(function* () {
    const { model } = runner
    const lengths = prompts.map(({ tokens }) => tokens.length)
    const room = Math.max(0, ...lengths) + options.maxTokens
    // Tables that change with the length make every kept key stale: such prompts are run anew at every step.
    const key = Runner.tableKey(model)
    const keeps = key(room) === key(Math.min(...lengths))
    const budget = Math.max(room, Math.floor((options.memory * room) / Forward.cacheBytes(model, room)))
    const next = yield* head(model)
    const done: Array<Int32Array> = []
    const waves = Batch.batches(
      lengths.map((n) => n + options.maxTokens),
      budget,
      () => 0,
    )
    for (const wave of waves) {
      const members = wave.items.toSorted((a, b) => a - b)
      const states = members.map((item) => ({ ...prompts[item]!, ids: [] as Array<number> }))
      yield* keeps ? cached(runner, states, next, options) : uncached(runner, states, next, options)
      members.forEach((item, i) => (done[item] = Int32Array.from(states[i]!.ids)))
    }
    return done
  })

interface State extends Prompt {
  readonly ids: Array<number>
}
/** Last hidden states [rows, hidden] -> logits of each row. */
type Next = (rows: Slab.Slab) => Effect.Effect<ReadonlyArray<Float32Array>, WorkerError, Pool>

const head = <E>(model: Model.Model<E>): Effect.Effect<Next, E | WorkerError, Pool> =>
  Effect.gen(function* () {
    const program = Model.heading(model)
    const weights = yield* Model.load(model, program.weights, "")
    const { vocabulary } = model.shape
    return Effect.fnUntraced(function* (rows: Slab.Slab) {
      const count = rows.dims[0]!
      const logits = Slab.make("float32", [count, vocabulary])
      yield* Model.run(program, { ...weights, hidden: rows }, { logits })
      const all = Slab.floats(logits)
      return Array.from({ length: count }, (_, i) => all.subarray(i * vocabulary, (i + 1) * vocabulary))
    })
  })

/** Draw one token for each state from its row; gives those that go on. */
const advance = <E, R>(states: ReadonlyArray<State>, rows: ReadonlyArray<Float32Array>, options: Options<E, R>) =>
  Effect.gen(function* () {
    states.forEach(({ ids, seed }, i) => {
      // A draw depends on the prompt's seed and the step alone.
      const random = Random.make(seed + BigInt(ids.length) * 0x9e37_79b9_7f4a_7c15n)
      ids.push(Sampling.sample(rows[i]!, options.sampling, random))
    })
    yield* options.onToken(states.length)
    const finished = yield* options.finished(states.map(({ ids }) => ids))
    return states.filter(({ ids }, i) => ids.length < options.maxTokens && !finished[i])
  })

/** Prompts that decode in one call. */
const GROUP = 128

/** Tokens of prompts that go through a block in one call: more only take more memory. */
const PREFILL = 1024

const cached = <E, E2, R>(
  runner: Runner.Runner<E>,
  states: ReadonlyArray<State>,
  next: Next,
  options: Options<E2, R>,
) =>
  Effect.gen(function* () {
    const { size } = yield* Pool
    const { hidden } = runner.model.shape
    const sequences = states.map(({ tokens }) => tokens)
    const lengths = sequences.map((tokens) => tokens.length)
    // As many groups as keep all threads busy, of about the same size.
    const count = size * Math.ceil(states.length / (size * GROUP))
    const groups = split(lengths, Math.max(Batch.FEWEST_ROWS, Math.ceil(states.length / count)))
    const caches = groups.map((batch) =>
      Forward.makeCache(runner.model, batch.items.length, batch.width + options.maxTokens),
    )
    const parts = groups.flatMap((batch, g) => slices(batch, caches[g]!).map((slice) => ({ ...slice, group: g })))
    const prefilled = yield* Forward.prefill(
      runner,
      sequences,
      parts.map(({ batch }) => batch),
      parts.map(({ cache }) => cache),
      () => Effect.void,
    )
    const lasts = groups.map(({ items }) => Slab.make("float32", [items.length, hidden]))
    parts.forEach(({ batch, first, group }, p) => {
      const [all, last] = [Slab.floats(prefilled[p]!), Slab.floats(lasts[group]!)]
      batch.lengths.forEach((length, i) => {
        const at = (i * batch.width + length - 1) * hidden
        last.set(all.subarray(at, at + hidden), (first + i) * hidden)
      })
    })
    let open = groups.map((batch, g) => {
      const members = batch.items.map((item) => states[item]!)
      return { members, cache: caches[g]!, past: [...batch.lengths], last: lasts[g]!, live: new Set(members) }
    })
    while (open.length > 0) {
      yield* Effect.forEach(
        open,
        Effect.fnUntraced(function* (group) {
          const rows = yield* next(group.last)
          const live = [...group.live]
          const read = live.map((state) => rows[group.members.indexOf(state)]!)
          group.live = new Set(yield* advance(live, read, options))
        }),
        { concurrency: size, discard: true },
      )
      open = open.filter((group) => group.live.size > 0)
      const steps = open.map(({ cache, members, past }) => ({
        cache,
        past: [...past],
        // A finished prompt keeps its row and repeats its last token; its numbers are no longer read.
        tokens: Int32Array.from(members, ({ ids }) => ids.at(-1)!),
      }))
      const outs = yield* Forward.decode(runner, steps)
      open = open.map((group, g) => ({
        ...group,
        past: group.past.map((n, i) => (group.live.has(group.members[i]!) ? n + 1 : n)),
        last: { ...outs[g]!, dims: [group.members.length, hidden] },
      }))
    }
  })

/** Groups of at most `count` sequences of similar length. A lone one is its own company. */
const split = (lengths: ReadonlyArray<number>, count: number): ReadonlyArray<Batch.Batch> => {
  const order = lengths.map((_, i) => i).toSorted((a, b) => lengths[b]! - lengths[a]! || a - b)
  const groups: Array<Batch.Batch> = []
  for (let at = 0; at < order.length; at += count) {
    const items = order.slice(at, at + count)
    groups.push(Batch.batch(items.length === 1 ? [items[0]!, items[0]!] : items, lengths))
  }
  return groups
}

/** Consecutive sequences of a batch, with their rows of its caches. */
const slices = (batch: Batch.Batch, caches: ReadonlyArray<Forward.LayerCache>) => {
  const { items, lengths, width } = batch
  const count = Math.max(1, Math.floor(PREFILL / width))
  return Array.from({ length: Math.ceil(items.length / count) }, (_, i) => {
    const first = i * count
    const own = { items: items.slice(first, first + count), lengths: lengths.slice(first, first + count), width }
    const rows = (slab: Slab.Slab) => Slab.rows(slab, first, own.items.length)
    const part = (cache: Forward.LayerCache) =>
      Object.fromEntries(Object.entries(cache).map(([name, slab]) => [name, rows(slab)]))
    return { first, batch: own, cache: caches.map(part) }
  })
}

const uncached = <E, E2, R>(
  runner: Runner.Runner<E>,
  states: ReadonlyArray<State>,
  next: Next,
  options: Options<E2, R>,
) =>
  Effect.gen(function* () {
    const { hidden } = runner.model.shape
    let live = states
    while (live.length > 0) {
      const sequences = live.map(({ ids, tokens }) => Int32Array.from([...tokens, ...ids]))
      const lengths = sequences.map((tokens) => tokens.length)
      const groups = Batch.batches(lengths, 2048, Runner.tableKey(runner.model))
      const outs = yield* Forward.prefill(runner, sequences, groups, undefined, () => Effect.void)
      const last = Slab.make("float32", [Math.max(Batch.FEWEST_ROWS, live.length), hidden])
      groups.forEach((batch, g) =>
        batch.items.forEach((item, i) => {
          const at = (i * batch.width + batch.lengths[i]! - 1) * hidden
          Slab.floats(last).set(Slab.floats(outs[g]!).subarray(at, at + hidden), item * hidden)
        }),
      )
      const rows = yield* next(last)
      live = yield* advance(live, rows, options)
    }
  })
