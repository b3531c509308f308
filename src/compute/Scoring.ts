/**
 * Log-probabilities of given tokens, and how far they are from a reference model's.
 *
 * Two steps, because the first is worth keeping for a reference: hidden states of the scored positions (tokens x
 * hidden, one to two orders of magnitude smaller than logits), then the head with its reductions.
 */
import * as Effect from "effect/Effect"
import * as Forward from "./Forward.ts"
import * as Batch from "./Batch.ts"
import * as Runner from "./Runner.ts"
import * as Model from "./Model.ts"
import { Pool, type WorkerError } from "./Pool.ts"
import * as Slab from "./Slab.ts"
import { REFERENCE } from "../onnx/Score.ts"

/** Score `tokens[from …]`, each given all tokens before it. `from` is at least 1. */
export interface Request {
  readonly tokens: Int32Array
  readonly from: number
  /** The item it is asked for, for messages: its place in the list where it is left out. */
  readonly item?: number
}

/** Per scored token, all requests one after the other. Natural logarithms. */
export interface TokenScores {
  readonly logprob: Float32Array
  /** The most likely token there. */
  readonly greedy: Int32Array
  readonly reference:
    | {
        readonly logprob: Float32Array
        readonly greedy: Int32Array
        /** KL(reference ‖ model). */ readonly kl: Float32Array
      }
    | undefined
}

export const rowCount = (requests: ReadonlyArray<Request>): number =>
  requests.reduce((n, { from, tokens }) => n + tokens.length - from, 0)

/** Scored tokens, in the order of the rows. */
export const targets = (requests: ReadonlyArray<Request>): Int32Array => {
  const all = new Int32Array(rowCount(requests))
  let at = 0
  for (const { from, tokens } of requests) {
    all.set(tokens.subarray(from), at)
    at += tokens.length - from
  }
  return all
}

/**
 * Hidden states before the head that predict the scored tokens, [rows, hidden], in request order. There are at least
 * two rows; those beyond the scored tokens are zero.
 */
export const hiddenRows = <E>(
  runner: Runner.Runner<E>,
  requests: ReadonlyArray<Request>,
  tokensPerBatch: number,
  onStep: (step: Runner.Step) => Effect.Effect<void>,
): Effect.Effect<Slab.Slab, E | WorkerError, Pool> =>
  Effect.gen(function* () {
    const { hidden } = runner.model.shape
    // The last token predicts nothing that is scored.
    const sequences = requests.map(({ tokens }) => tokens.subarray(0, tokens.length - 1))
    const lengths = sequences.map((tokens) => tokens.length)
    const { size } = yield* Pool
    const total = lengths.reduce((n, length) => n + length, 0)
    // A few sequences are shared among the threads.
    const groups = Batch.batches(
      lengths,
      Math.min(tokensPerBatch, Math.ceil(total / size)),
      Runner.tableKey(runner.model),
    )
    const states = yield* Forward.prefill(runner, sequences, groups, undefined, onStep)
    const out = Slab.make("float32", [Math.max(Batch.FEWEST_ROWS, rowCount(requests)), hidden])
    const rows = Slab.floats(out)
    const starts: Array<number> = []
    let row = 0
    for (const { from, tokens } of requests) {
      starts.push(row)
      row += tokens.length - from
    }
    groups.forEach((batch, b) => {
      const state = Slab.floats(states[b]!)
      batch.items.forEach((item, i) => {
        const first = (i * batch.width + requests[item]!.from - 1) * hidden
        const last = (i * batch.width + lengths[item]!) * hidden
        rows.set(state.subarray(first, last), starts[item]! * hidden)
      })
    })
    return out
  })

/** Floats of logits that one call may make: the head's memory. */
const LOGITS = 8 << 20

/** Through the head, [rows, hidden] -> scores of `targets`; with a reference, against the reference's own rows. */
export const scoreRows = <E, E2>(
  model: Model.Model<E>,
  rows: Slab.Slab,
  targets: Int32Array,
  reference: { readonly model: Model.Model<E2>; readonly rows: Slab.Slab } | undefined,
): Effect.Effect<TokenScores, E | E2 | WorkerError, Pool> =>
  Effect.gen(function* () {
    const pool = yield* Pool
    const { hidden, vocabulary } = model.shape
    const count = Math.max(Batch.FEWEST_ROWS, targets.length)
    const program = Model.scoring(model, reference?.model)
    const own = program.weights.filter(({ input }) => !input.startsWith(REFERENCE))
    const others = program.weights.filter(({ input }) => input.startsWith(REFERENCE))
    const weights = {
      ...(yield* Model.load(model, own, "")),
      ...(reference && (yield* Model.load(reference.model, others, ""))),
    }
    const all = (type: Slab.SlabType) => Slab.make(type, [count])
    const fetches: { [name: string]: Slab.Slab } = {
      logprob: all("float32"),
      greedy: all("int64"),
      ...(reference && { kl: all("float32"), referenceLogprob: all("float32"), referenceGreedy: all("int64") }),
    }
    const wanted = Slab.int64s([count], (i) => targets[i] ?? 0)
    const chunk = Math.max(16, Math.min(1024, Math.floor(LOGITS / vocabulary)))
    // A last chunk of one row begins a row early: that row comes out the same twice.
    const starts = Array.from({ length: Math.ceil(count / chunk) }, (_, i) =>
      Math.min(i * chunk, count - Batch.FEWEST_ROWS),
    )
    yield* Effect.forEach(
      starts,
      (start) => {
        const part = (slab: Slab.Slab) => Slab.rows(slab, start, Math.min(chunk, count - start))
        return Model.run(
          program,
          {
            ...weights,
            hidden: part({ ...rows, dims: [count, hidden] }),
            targets: part(wanted),
            ...(reference && {
              [`${REFERENCE}hidden`]: part({ ...reference.rows, dims: [count, reference.model.shape.hidden] }),
            }),
          },
          Object.fromEntries(Object.entries(fetches).map(([name, slab]) => [name, part(slab)])),
        )
      },
      { concurrency: pool.size, discard: true },
    )
    pool.memory.giveBack(weights)
    const floats = (name: string) => Float32Array.from(Slab.floats(fetches[name]!)).subarray(0, targets.length)
    const tokens = (name: string) => Int32Array.from(Slab.longs(fetches[name]!), Number).subarray(0, targets.length)
    return {
      logprob: floats("logprob"),
      greedy: tokens("greedy"),
      reference: reference && {
        logprob: floats("referenceLogprob"),
        greedy: tokens("referenceGreedy"),
        kl: floats("kl"),
      },
    }
  })
