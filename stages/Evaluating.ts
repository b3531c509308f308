/**
 * The work of `evaluate`: a scorer asks for log-probabilities and continuations; they are computed in work units that
 * are kept one by one, so that an interrupted evaluation loses at most one, and a reference model is run once for all
 * that are compared with it.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import * as Runner from "../src/compute/Runner.ts"
import * as Generating from "../src/compute/Generating.ts"
import type { Pool } from "../src/compute/Pool.ts"
import * as Scoring from "../src/compute/Scoring.ts"
import * as Artifact from "../src/engine/Artifact.ts"
import { StageFailure } from "../src/engine/Problem.ts"
import type { Context } from "../src/engine/Stage.ts"
import * as Family from "../src/models/Family.ts"
import * as Scorer from "../src/tasks/Scorer.ts"
import * as Task from "../src/tasks/Task.ts"
import { failing } from "./Failing.ts"
import type { Overrides } from "./evaluate.ts"
import * as Model from "./Model.ts"
import * as Plugin from "./Plugin.ts"
import * as Data from "./Data.ts"
import * as Runtime from "./Runtime.ts"
import type * as Scores from "./Scores.ts"

interface Params {
  readonly task: string
  readonly limit?: number
  readonly batch_tokens: number
  readonly memory: number
}

export const evaluate = Effect.fnUntraced(function* (
  params: Params,
  /** What the study says in place of the task. */
  overrides: Overrides,
  { model, reference }: { readonly model: Model.Value; readonly reference: Model.Value | undefined },
  context: Context,
) {
  const { task: file } = context.sources
  const { kind } = yield* failing(Task.readCommon(file!.path))
  const scorer = yield* Plugin.load(yield* failing(Plugin.path("tasks", kind, ["task"], ".ts")), Scorer.isScorer)
  const task = { ...(yield* failing(Task.readTask(file!.path, scorer))), ...overrides }
  const limit = Math.min(params.limit ?? Infinity, task.data.limit ?? Infinity)
  const items = yield* failing(Data.read(context.sources, Number.isFinite(limit) ? limit : undefined))
  yield* context.log(`${items.length} items of ${task.data.source}`)

  const own = yield* Runtime.open(model, context)
  const other = reference && (yield* Runtime.open(reference, context))
  const outcome = yield* Effect.mapError(scorer.run(task, items, subject(own, other, params, context)), (error) =>
    error._tag === "Unscorable" ? new StageFailure({ reason: `${params.task}: ${error.message}` }) : error,
  )
  const lines = outcome.records.map((record) => JSON.stringify(record)).join("\n")
  const samples: Array<number> = []
  const value: Scores.Value = {
    task: params.task,
    kind,
    metrics: outcome.metrics.map(({ interval, samples: own, ...metric }) => {
      const first = samples.length
      for (const sample of own ?? []) samples.push(sample)
      return { ...metric, ...(interval && { interval: [...interval] }), ...(own && { samples: [first, own.length] }) }
    }),
    items: createHash("sha256").update(JSON.stringify(items)).digest("hex"),
    records: yield* context.put(new TextEncoder().encode(`${lines}\n`)),
    samples: yield* context.put(new Uint8Array(Float64Array.from(samples).buffer)),
    effectiveBits: effectiveBits(model, own),
  }
  return value
})

/** Mean bits per weight of the blocks' linears, as they are stored: scales, zero points and padding included. */
const effectiveBits = (model: Model.Value, { model: { config, family } }: Runtime.Runtime): number => {
  const linears = Family.outline(family, config).sites.filter(
    ({ kind, layer }) => kind === "linear" && layer !== undefined,
  )
  const bytes = linears.reduce((sum, { tensor }) => sum + Model.storedBytes(model.tensors[tensor]!), 0)
  return (8 * bytes) / linears.reduce((sum, { shape }) => sum + shape[0] * shape[1], 0)
}

/** Bytes of hidden states that are in memory at once. A fixed size: what a unit holds must not depend on the machine. */
const SEGMENT = 128 << 20

const StoredScores = Schema.Struct({
  logprob: Artifact.Blob,
  greedy: Artifact.Blob,
  reference: Schema.NullOr(Schema.Struct({ logprob: Artifact.Blob, greedy: Artifact.Blob, kl: Artifact.Blob })),
})

const subject = (
  own: Runtime.Runtime,
  other: Runtime.Runtime | undefined,
  params: Params,
  context: Context,
): Scorer.Subject<Runtime.Failure, Pool> => {
  const runners = new Map<Runtime.Runtime, Runner.Runner<Runtime.Failure>>()
  const streaming = (runtime: Runtime.Runtime) => Runner.make(runtime.model, false)
  const generating = (runtime: Runtime.Runtime) => {
    const known = runners.get(runtime)
    if (known) return known
    const fresh = Runner.make(runtime.model, weightBytes(runtime) <= params.memory << 20)
    runners.set(runtime, fresh)
    return fresh
  }

  const hiddenRows = (runtime: Runtime.Runtime, requests: ReadonlyArray<Scoring.Request>, progress: Progress) => {
    const { layers } = runtime.model.shape
    const tokens = requests.reduce((n, request) => n + request.tokens.length, 0)
    return Runtime.worked(
      Scoring.hiddenRows(streaming(runtime), requests, params.batch_tokens, () => progress(tokens / layers)),
    )
  }
  /** The reference's hidden states, computed once and kept. */
  const keptRows = (
    runtime: Runtime.Runtime,
    requests: ReadonlyArray<Scoring.Request>,
    digest: string,
    progress: Progress,
  ) =>
    Effect.gen(function* () {
      const { hidden } = runtime.model.shape
      const blob = yield* context.memo(
        "hidden states",
        { model: runtime.identity, requests: digest },
        Artifact.Blob,
        Effect.gen(function* () {
          const rows = yield* hiddenRows(runtime, requests, progress)
          return yield* context.put(new Uint8Array(rows.buffer))
        }),
      )
      const { buffer } = yield* context.read(blob)
      return { type: "float32" as const, dims: [blob.bytes / 4 / hidden, hidden], buffer, offset: 0 }
    })

  const segment = (requests: ReadonlyArray<Scoring.Request>, progress: Progress) =>
    Effect.gen(function* () {
      const digest = digestOf(requests)
      const preimage = { model: own.identity, reference: other?.identity ?? null, requests: digest }
      const compute = Effect.gen(function* () {
        const rows = yield* hiddenRows(own, requests, progress)
        const reference = other && { model: other.model, rows: yield* keptRows(other, requests, digest, progress) }
        const scores = yield* Runtime.worked(Scoring.scoreRows(own.model, rows, Scoring.targets(requests), reference))
        if (!scores.logprob.every(Number.isFinite)) {
          const reason = "the model's logits are not numbers: its weights or activations overflow float32"
          return yield* new StageFailure({ reason })
        }
        const put = (values: Float32Array | Int32Array) =>
          context.put(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
        return {
          logprob: yield* put(scores.logprob),
          greedy: yield* put(scores.greedy),
          reference: scores.reference
            ? {
                logprob: yield* put(scores.reference.logprob),
                greedy: yield* put(scores.reference.greedy),
                kl: yield* put(scores.reference.kl),
              }
            : null,
        }
      })
      const stored = yield* context.memo("token scores", preimage, StoredScores, compute)
      const floats = (blob: Artifact.Blob) => Effect.map(context.read(blob), (b) => new Float32Array(b.buffer))
      const ints = (blob: Artifact.Blob) => Effect.map(context.read(blob), (b) => new Int32Array(b.buffer))
      const scores: Scoring.TokenScores = {
        logprob: yield* floats(stored.logprob),
        greedy: yield* ints(stored.greedy),
        reference: stored.reference
          ? {
              logprob: yield* floats(stored.reference.logprob),
              greedy: yield* ints(stored.reference.greedy),
              kl: yield* floats(stored.reference.kl),
            }
          : undefined,
      }
      return scores
    })

  const score = (requests: ReadonlyArray<Scoring.Request>) =>
    Effect.gen(function* () {
      yield* checkTokens(requests, own)
      if (other) yield* checkTokens(requests, other)
      const total = requests.reduce((n, { tokens }) => n + tokens.length, 0)
      const progress = counting(context, total, "tokens")
      const parts = yield* Effect.forEach(segments(requests, own.model.shape.hidden), (part) => segment(part, progress))
      return concatenate(parts)
    })

  const continuations = (
    runtime: Runtime.Runtime,
    prompts: ReadonlyArray<string>,
    { bos, rendered }: Scorer.Prompts,
    options: Scorer.GenerateOptions,
  ) =>
    Effect.gen(function* () {
      const { maxTokens, sampling, stop } = options
      const lead = rendered ? [] : runtime.lead(bos)
      const seed = sampling.temperature === 0 ? 0n : context.seed
      const preimage = {
        model: runtime.identity,
        prompts: createHash("sha256").update(JSON.stringify(prompts)).digest("hex"),
        rendered,
        lead: [...lead],
        options: { maxTokens, sampling: { ...sampling }, stop: [...stop], seed: String(seed) },
      }
      const compute = Effect.gen(function* () {
        const encoded = yield* runtime.encode(prompts, rendered)
        const begun = encoded.map((tokens, i) => ({
          tokens: Int32Array.from([...lead, ...tokens]),
          seed: seed + BigInt(i) * 0x2545_f491_4f6c_dd1dn,
        }))
        yield* checkTokens(
          begun.map(({ tokens }) => ({ tokens, from: 1 })),
          runtime,
          maxTokens,
        )
        const progress = counting(context, prompts.length * maxTokens, "tokens")
        const ids = yield* Runtime.worked(
          Generating.generate(generating(runtime), begun, {
            maxTokens,
            sampling,
            memory: params.memory << 20,
            finished: (sequences) =>
              Effect.map(runtime.decode(sequences), (texts) =>
                texts.map(
                  (text, i) => runtime.eos.includes(sequences[i]!.at(-1)!) || stop.some((end) => text.includes(end)),
                ),
              ),
            onToken: progress,
          }),
        )
        const texts = yield* runtime.decode(
          ids.map((sequence) => [...sequence].filter((id) => !runtime.eos.includes(id))),
        )
        return texts.map((text) => cut(text, stop))
      })
      return yield* context.memo("continuations", preimage, Schema.Array(Schema.String), compute)
    })

  return {
    lead: own.lead,
    encode: own.encode,
    render: (conversations, others, style) =>
      Effect.gen(function* () {
        return {
          own: yield* own.render(conversations, style),
          reference: other && others ? yield* other.render(others, style) : undefined,
        }
      }),
    hasReference: other !== undefined,
    score,
    generate: (prompts, options) =>
      Effect.gen(function* () {
        return {
          own: yield* continuations(own, prompts.own, prompts, options),
          reference:
            other && prompts.reference ? yield* continuations(other, prompts.reference, prompts, options) : undefined,
        }
      }),
  }
}

type Progress = (count: number) => Effect.Effect<void>

const counting = (context: Context, total: number, unit: string): Progress => {
  let done = 0
  return (count) => context.progress(Math.min(total, (done += count)), total, unit)
}

/** Of all weights as float32. */
const weightBytes = ({ model: { config, family } }: Runtime.Runtime): number =>
  [...Family.outline(family, config).catalog.values()].reduce(
    (sum, shape) => sum + 4 * shape.reduce((n, d) => n * d, 1),
    0,
  )

/** Up to the first text that ends a continuation. */
const cut = (text: string, stop: ReadonlyArray<string>): string => {
  const ends = stop.map((end) => text.indexOf(end)).filter((at) => at >= 0)
  return ends.length === 0 ? text : text.slice(0, Math.min(...ends))
}

const digestOf = (requests: ReadonlyArray<Scoring.Request>): string => {
  const hash = createHash("sha256")
  for (const { from, tokens } of requests) {
    hash.update(`${from}:${tokens.length}:`)
    hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength))
  }
  return hash.digest("hex")
}

/** Consecutive requests whose hidden states fill a segment. */
const segments = (requests: ReadonlyArray<Scoring.Request>, hidden: number) => {
  const room = Math.floor(SEGMENT / (4 * hidden))
  const parts: Array<Array<Scoring.Request>> = []
  let held = Infinity
  for (const request of requests) {
    if (held + request.tokens.length > room) {
      parts.push([])
      held = 0
    }
    parts.at(-1)!.push(request)
    held += request.tokens.length
  }
  return parts
}

const checkTokens = (requests: ReadonlyArray<Scoring.Request>, { model }: Runtime.Runtime, more = 0) => {
  const { context, vocabulary } = model.shape
  for (const [i, { item = i, tokens }] of requests.entries()) {
    if (tokens.length + more > context) {
      const reason = `item ${item} is ${tokens.length} tokens long${more > 0 ? ` and ${more} are to be generated` : ""}; the model's positions end at ${context}`
      return Effect.fail(new StageFailure({ reason }))
    }
    const bad = tokens.findIndex((token) => token < 0 || token >= vocabulary)
    if (bad >= 0) {
      const reason = `item ${item}: token id ${tokens[bad]} at position ${bad} is outside of the model's vocabulary of ${vocabulary}`
      return Effect.fail(new StageFailure({ reason }))
    }
  }
  return Effect.void
}

const length = (arrays: ReadonlyArray<ArrayLike<number>>): number => arrays.reduce((n, array) => n + array.length, 0)

/** The arrays one after the other in `all`. */
const join = <A extends Float32Array | Int32Array>(all: A, arrays: ReadonlyArray<A>): A => {
  let at = 0
  for (const array of arrays) {
    all.set(array, at)
    at += array.length
  }
  return all
}

const concatenate = (parts: ReadonlyArray<Scoring.TokenScores>): Scoring.TokenScores => {
  const floats = (arrays: ReadonlyArray<Float32Array>) => join(new Float32Array(length(arrays)), arrays)
  const ints = (arrays: ReadonlyArray<Int32Array>) => join(new Int32Array(length(arrays)), arrays)
  const references = parts.flatMap(({ reference }) => (reference ? [reference] : []))
  return {
    logprob: floats(parts.map(({ logprob }) => logprob)),
    greedy: ints(parts.map(({ greedy }) => greedy)),
    reference:
      references.length === 0
        ? undefined
        : {
            logprob: floats(references.map(({ logprob }) => logprob)),
            greedy: ints(references.map(({ greedy }) => greedy)),
            kl: floats(references.map(({ kl }) => kl)),
          },
  }
}
