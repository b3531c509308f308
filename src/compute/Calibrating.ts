/**
 * One pass over calibration text, block by block, with everything reduced inside the graph: what comes out is a few
 * vectors per site and sequence, added up in the order of the sequences. Memory does not grow with the text beyond its
 * hidden states.
 */
import * as Effect from "effect/Effect"
import * as Statistics from "../math/Statistics.ts"
import * as Capture from "../onnx/Capture.ts"
import * as Forward from "./Forward.ts"
import * as Batch from "./Batch.ts"
import * as Runner from "./Runner.ts"
import * as Model from "./Model.ts"
import type { Pool, WorkerError } from "./Pool.ts"
import * as Slab from "./Slab.ts"

export interface Site {
  /** Of all tokens, or of those that were routed to the expert the site is in: there may be none. */
  readonly sums: Statistics.Sums
  /** Xᵀ X over all tokens, [channels, channels]. */
  readonly gram: Float64Array | undefined
}

/**
 * Statistics by full site (`3.self_attn.q_proj`, `3.key`, `3.value`). All `sequences` have the same length.
 * Sites that read the same tensor share one object.
 */
export const calibrate = <E>(
  model: Model.Model<E>,
  sequences: ReadonlyArray<Int32Array>,
  gram: boolean,
  tokensPerBatch: number,
  /** Told after each block or expert which share of all is done. */
  onStep: (done: number) => Effect.Effect<void>,
): Effect.Effect<ReadonlyMap<string, Site>, E | WorkerError, Pool> =>
  Effect.gen(function* () {
    const sites = new Map<string, Site>()
    const taps = new Map<string, ReadonlyArray<Capture.Tap>>()
    const runner = Runner.make(model, false, (unit) => {
      const capture = Capture.capture(gram)
      taps.set(unit.sites, capture.taps)
      return Model.unit(model, unit, capture.hooks)
    })
    const lengths = sequences.map((tokens) => tokens.length)
    const groups = inCompany(lengths, gram ? 0 : tokensPerBatch)
    yield* Forward.observe(runner, sequences, groups, {
      fetches: ({ unit }, count) => outputs(taps.get(unit.sites)!, count, gram),
      seen: (step, results) =>
        Effect.andThen(
          Effect.sync(() => {
            for (const tap of taps.get(step.unit.sites)!) {
              const site = total(tap, lengths[0]!, groups, results)
              for (const name of tap.sites) sites.set(step.unit.sites + name, site)
            }
          }),
          onStep((runner.steps.indexOf(step) + 1) / runner.steps.length),
        ),
    })
    return sites
  })

/**
 * Batches of at least two sequences, which `onnx/Capture.ts` asks for; the last one may be twice the same. Gram matrices
 * are large, one per sequence and site: for them, no more than two.
 */
const inCompany = (lengths: ReadonlyArray<number>, tokens: number): ReadonlyArray<Batch.Batch> =>
  Batch.batches(lengths, Math.max(tokens, 2 * Math.max(...lengths)), () => 0).map((group) =>
    group.items.length > 1 ? group : Batch.batch([...group.items, ...group.items], lengths),
  )

type Results = ReadonlyArray<{ readonly [output: string]: Slab.Slab }>

const outputs = (taps: ReadonlyArray<Capture.Tap>, count: number, gram: boolean) =>
  Object.fromEntries(
    taps.flatMap(({ channels, routed, sites }) => [
      ...Capture.STATISTICS.map((name) => [`${sites[0]}|${name}`, Slab.make("float32", [count, channels])] as const),
      ...(routed ? [[`${sites[0]}|count`, Slab.make("float32", [count])] as const] : []),
      ...(gram && !Capture.isCache(sites[0]!)
        ? [[`${sites[0]}|gram`, Slab.make("float32", [count, channels, channels])] as const]
        : []),
    ]),
  )

/** Add up one site's rows, sequence by sequence in the caller's order. */
const total = (
  { channels, routed, sites: [name] }: Capture.Tap,
  length: number,
  groups: ReadonlyArray<Batch.Batch>,
  results: Results,
): Site => {
  const place = new Map<number, readonly [group: number, row: number]>()
  groups.forEach((batch, g) => batch.items.forEach((item, row) => place.set(item, [g, row])))
  let sums = Statistics.empty(channels)
  const first = results[0]![`${name}|gram`]
  const gram = first && new Float64Array(channels * channels)
  for (let item = 0; item < place.size; item++) {
    const [g, row] = place.get(item)!
    const part = (statistic: string) => Slab.floats(Slab.rows(results[g]![`${name}|${statistic}`]!, row, 1))
    const count = routed ? part("count")[0]! : length
    if (count === 0) continue
    const [min, max] = [part("min"), part("max")]
    sums = Statistics.add(sums, {
      count,
      min,
      max,
      absmax: min.map((low, c) => Math.max(Math.abs(low), Math.abs(max[c]!))),
      sum: part("s1"),
      sum2: part("s2"),
      sum3: part("s3"),
      sum4: part("s4"),
    })
    if (gram) {
      const product = part("gram")
      for (let i = 0; i < gram.length; i++) gram[i]! += product[i]!
    }
  }
  return { sums, gram }
}
