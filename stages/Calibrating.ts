/** The work of `calibrate`: sequences at seeded random places, one pass, statistics kept as float32 vectors. */
import * as Effect from "effect/Effect"
import * as Calibrating from "../src/compute/Calibrating.ts"
import type { Blob } from "../src/engine/Artifact.ts"
import { StageFailure } from "../src/engine/Problem.ts"
import type { Context } from "../src/engine/Stage.ts"
import type { Statistic } from "../src/methods/Method.ts"
import * as Random from "../src/math/Random.ts"
import * as Moments from "../src/math/Statistics.ts"
import * as Data from "./Data.ts"
import { failing } from "./Failing.ts"
import type * as Model from "./Model.ts"
import * as Runtime from "./Runtime.ts"
import type * as Statistics from "./Statistics.ts"

interface Params {
  readonly field: string
  readonly sequences: number
  readonly length: number
  readonly bos: boolean
  readonly collect: ReadonlyArray<Statistic>
  readonly batch_tokens: number
}

/** Of an expert that saw no token: there are no statistics. */
const UNSEEN = { tokens: 0, absmax: 0, std: 0, kurtosis: 0, min: 0, max: 0, perChannel: {} }

export const calibrate = Effect.fnUntraced(function* (
  params: Params,
  { model }: { readonly model: Model.Value },
  context: Context,
) {
  const runtime = yield* Runtime.open(model, context)
  const items = yield* failing(Data.read(context.sources, undefined))
  const path = Object.values(context.sources)[0]!.path
  const texts = items.map((item) => item[params.field])
  const missing = texts.findIndex((text) => typeof text !== "string")
  if (missing >= 0) {
    const reason = `${path}: item ${missing} has no text '${params.field}'; it has ${Object.keys(items[missing]!).join(", ")}; say which with field`
    return yield* new StageFailure({ reason })
  }
  if (params.bos && runtime.lead(true).length === 0) {
    return yield* new StageFailure({ reason: "the model has no BOS token; set bos: false" })
  }
  const tokens = yield* runtime.encode([texts.join("\n\n")], false)
  const sequences = yield* sample(tokens[0]!, params, runtime.lead(params.bos), context.seed, path)
  const total = sequences.length * params.length
  const sites = yield* Runtime.worked(
    Calibrating.calibrate(runtime.model, sequences, params.collect.includes("gram"), params.batch_tokens, (done) =>
      context.progress(Math.round(total * done), total, "tokens"),
    ),
  )

  const vector = (values: ReadonlyArray<number> | Float64Array) =>
    context.put(new Uint8Array(Float32Array.from(values).buffer))
  const entries: Array<readonly [string, Statistics.Value["sites"][string]]> = []
  for (const [name, { gram, sums }] of sites) {
    if (sums.count === 0) {
      yield* context.log(`${name}: no token was routed to this expert`)
      entries.push([name, { ...UNSEEN, channels: sums.sum.length }])
      continue
    }
    const perChannel = Moments.perChannel(sums)
    const { absmax, kurtosis, max, min, std } = Moments.overall(sums)
    const figures = `absmax ${absmax.toPrecision(4)}, std ${std.toPrecision(4)}, kurtosis ${kurtosis.toPrecision(4)}`
    yield* context.log(`${name}: ${figures}`)
    const kept: { [S in Exclude<Statistic, "gram">]?: Blob } = {}
    for (const statistic of params.collect) {
      if (statistic !== "gram") kept[statistic] = yield* vector(perChannel.map((moments) => moments[statistic]))
    }
    entries.push([
      name,
      {
        tokens: sums.count,
        absmax,
        std,
        kurtosis,
        min,
        max,
        channels: perChannel.length,
        perChannel: kept,
        ...(gram && { gram: yield* vector(gram) }),
      },
    ])
  }
  const value: Statistics.Value = {
    family: model.family,
    collected: [...params.collect],
    sites: Object.fromEntries(entries),
  }
  return value
})

/** `sequences` windows of the text at seeded random places, in the order drawn; they may overlap. */
const sample = (
  text: Int32Array,
  { length, sequences }: Params,
  lead: ReadonlyArray<number>,
  seed: bigint,
  path: string,
): Effect.Effect<ReadonlyArray<Int32Array>, StageFailure> => {
  const held = length - lead.length
  if (text.length < held) {
    const reason = `${path} has ${text.length} tokens, fewer than one sequence of ${held}; use more text or a smaller length`
    return Effect.fail(new StageFailure({ reason }))
  }
  const random = Random.make(seed)
  return Effect.succeed(
    Array.from({ length: sequences }, () => {
      const start = random.below(text.length - held + 1)
      return Int32Array.from([...lead, ...text.subarray(start, start + held)])
    }),
  )
}
