/** The work of `quantize`: one work unit per tensor, so that a changed selector requantizes only what it covers. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Pool } from "../src/compute/Pool.ts"
import type { QuantizeArgument, Quantized } from "../src/compute/Quantizing.ts"
import * as Artifact from "../src/engine/Artifact.ts"
import { StageFailure } from "../src/engine/Problem.ts"
import type { Context } from "../src/engine/Stage.ts"
import * as Family from "../src/models/Family.ts"
import type { Statistic } from "../src/methods/Method.ts"
import { failing } from "./Failing.ts"
import * as Model from "./Model.ts"
import * as Plugin from "./Plugin.ts"
import * as Runtime from "./Runtime.ts"
import * as Select from "./Select.ts"
import * as Setting from "./Setting.ts"
import type * as Statistics from "./Statistics.ts"

const Unit = Schema.Struct({
  codes: Artifact.Blob,
  scales: Artifact.Blob,
  zeros: Artifact.Blob,
  error: Schema.Struct({ relativeMse: Schema.Finite, sqnr: Schema.NullOr(Schema.Finite), max: Schema.Finite }),
})

export const quantize = Effect.fnUntraced(function* (
  params: Select.Params,
  { model, stats }: { readonly model: Model.Value; readonly stats: Statistics.Value | undefined },
  context: Context,
) {
  const runtime = yield* Runtime.open(model, context)
  const outline = Family.outline(runtime.model.family, runtime.model.config)
  const selection = yield* failing(Select.select(params, outline))
  const pool = yield* Pool
  const code = { ...model.code }
  const tensors = { ...model.tensors }
  const quantized = new Map<string, { readonly label: string; readonly error: (typeof Unit.Type)["error"] }>()

  /** The statistics a method wants of a site, as float32 vectors. */
  const statisticsOf = (site: string, wants: ReadonlyArray<Statistic>) =>
    Effect.gen(function* () {
      const seen = stats?.sites[site]
      const found: { [S in Statistic]?: Artifact.Blob } = {
        ...seen?.perChannel,
        ...(seen?.gram && { gram: seen.gram }),
      }
      const entries: Array<readonly [Statistic, Float32Array]> = []
      const blobs: { [statistic: string]: string } = {}
      for (const statistic of wants) {
        if (seen?.tokens === 0) {
          const reason = `${site}: no token of the calibration was routed to this expert, so there is no ${statistic}; calibrate on more text, or leave the expert alone`
          return yield* new StageFailure({ reason })
        }
        const blob = found[statistic]
        if (blob === undefined) {
          return yield* new StageFailure({ reason: `the calibration has no ${statistic} of ${site}` })
        }
        blobs[statistic] = blob.blob
        entries.push([statistic, new Float32Array((yield* context.read(blob)).buffer)])
      }
      return { blobs, values: Object.fromEntries(entries) as { readonly [S in Statistic]: Float32Array } }
    })

  const unit = Effect.fnUntraced(function* (site: Family.Site, setting: Exclude<Setting.Setting, "none">) {
    const { method: name, ...own } = setting
    const method = Setting.methods.get(name)!
    if (method.slot !== "weights") return yield* new StageFailure({ reason: `${name} is no method for weights` })
    const shape = { rows: site.shape[0], cols: site.shape[1] }
    const storage = yield* failing(method.plan(own, { tensor: site.tensor, ...shape }))
    const file = yield* failing(Plugin.path("methods", name, []))
    const statistics = yield* statisticsOf(site.site, method.wants)
    const compute = Effect.gen(function* () {
      const { recipe } = yield* runtime.model.recipe(site.tensor)
      const argument: QuantizeArgument = {
        recipe,
        shape,
        method: Plugin.url("methods", name),
        format: Plugin.url("formats", storage.format),
        params: own,
        storage: storage.params,
        statistics: statistics.values,
      }
      const module = new URL("../src/compute/Quantizing.ts", import.meta.url)
      const { codes, error, scales, zeros } = yield* Runtime.worked(
        pool
          .call<Quantized>(module, "quantize", argument)
          .pipe(Effect.mapError((cause) => new StageFailure({ reason: `tensor ${site.tensor}: ${cause.message}` }))),
      )
      return {
        codes: yield* context.put(codes),
        scales: yield* context.put(scales),
        zeros: yield* context.put(zeros),
        // A tensor that came through unchanged has no finite signal-to-noise ratio.
        error: { ...error, sqnr: Number.isFinite(error.sqnr) ? error.sqnr : null },
      }
    })
    const preimage = {
      tensor: model.tensors[site.tensor]! as unknown as Schema.Json,
      method: name,
      code: yield* context.fingerprint(file),
      params: own,
      statistics: statistics.blobs,
    }
    const { error, ...parts } = yield* context.memo("tensor", preimage, Unit, compute)
    code[`formats/${storage.format}`] = yield* context.fingerprint(
      yield* failing(Plugin.path("formats", storage.format, [])),
    )
    tensors[site.tensor] = { format: storage.format, params: { ...storage.params }, shape: [...site.shape], ...parts }
    quantized.set(site.tensor, { label: Setting.label(setting), error })
  })

  // A tied head and its embedding are one tensor, quantized once; `select` has seen to it that they agree.
  const work = new Map<string, { readonly site: Family.Site; readonly setting: Exclude<Setting.Setting, "none"> }>()
  for (const site of outline.sites) {
    const setting = selection.weights.get(site.site)?.setting ?? "none"
    if (setting !== "none") work.set(site.tensor, { site, setting })
  }
  let done = 0
  yield* Effect.forEach(
    work.values(),
    ({ setting, site }) =>
      Effect.andThen(
        unit(site, setting),
        Effect.suspend(() => context.progress(++done, work.size, "tensors")),
      ),
    { concurrency: pool.size, discard: true },
  )

  const activations = { ...model.activations }
  for (const { site } of outline.sites) {
    const setting = selection.activations.get(site)?.setting ?? "none"
    if (setting === "none") continue
    const { method: name, ...own } = setting
    const method = Setting.methods.get(name)!
    if (method.slot !== "activations")
      return yield* new StageFailure({ reason: `${name} is no method for activations` })
    const { values } = yield* statisticsOf(site, method.wants)
    activations[site] = { ...method.quantizer(own, values) }
  }
  const kv = { ...model.kv }
  for (const [layer, { setting }] of selection.kv) {
    if (setting === "none") continue
    const { method: name, ...own } = setting
    const method = Setting.methods.get(name)!
    if (method.slot !== "kv") return yield* new StageFailure({ reason: `${name} is no method for the KV cache` })
    const site = `${layer}.${method.point(own) === "before-rope" ? "key-before-rope" : "key"}`
    const { values } = yield* statisticsOf(site, method.wants)
    kv[layer] = { ...method.quantizer(own, Family.heads(outline.shape)!.dim, values) }
  }
  const state = { ...model.state }
  for (const { dims, layer, site } of outline.states) {
    const setting = selection.state.get(layer)!.setting
    if (setting === "none") continue
    const { method: name, ...own } = setting
    const method = Setting.methods.get(name)!
    if (method.slot !== "state") return yield* new StageFailure({ reason: `${name} is no method for states` })
    state[site] = { ...(yield* failing(method.quantizer(own, dims[0]))) }
  }
  const report = coverage(outline, tensors, quantized, model.coverage)
  for (const line of report.map(describe)) yield* context.log(line)
  const value: Model.Value = { ...model, code, tensors, activations, kv, state, coverage: report }
  return value
})

/** Every tensor of the model: how it is stored, and what was done to it or why nothing was. */
const coverage = (
  outline: Family.Outline,
  tensors: Model.Value["tensors"],
  quantized: ReadonlyMap<string, { readonly label: string; readonly error: (typeof Unit.Type)["error"] }>,
  before: Model.Value["coverage"],
): Model.Value["coverage"] => {
  const sites = Map.groupBy(outline.sites, ({ tensor }) => tensor)
  const earlier = new Map(before.map((entry) => [entry.tensor, entry]))
  return [...outline.catalog].map(([tensor, shape]) => {
    const was = earlier.get(tensor)
    if (was?.quantized && !quantized.has(tensor)) return was
    const shared = sites.get(tensor) ?? []
    const site = shared[0]
    const done = quantized.get(tensor)
    const parameters = shape.reduce((n, d) => n * d, 1)
    const why =
      site === undefined
        ? "left alone: a vector, not a matrix"
        : site.layer === undefined
          ? "left alone: heads and embeddings are quantized only when selected by name"
          : site.byName
            ? "left alone: a router is quantized only when selected by name"
            : "left alone: its setting is none"
    return {
      tensor,
      site: site === undefined ? tensor : shared.map(({ site }) => site).join(", "),
      parameters,
      bits: (8 * Model.storedBytes(tensors[tensor]!)) / parameters,
      setting: done?.label ?? why,
      quantized: done !== undefined,
      ...(done && { error: done.error }),
    }
  })
}

/** One tensor's line in the cell's log. */
const describe = ({ bits, error, setting, tensor }: Model.Value["coverage"][number]): string => {
  const sqnr = error && (error.sqnr === null ? "no error" : `SQNR ${error.sqnr.toFixed(2)} dB`)
  const measured =
    error && `, ${sqnr}, relative MSE ${error.relativeMse.toExponential(3)}, max ${error.max.toExponential(3)}`
  return `${tensor}: ${setting}, ${bits.toFixed(2)} bits per weight${measured ?? ""}`
}
