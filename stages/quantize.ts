/**
 * `use: quantize`: weights are packed, activations, the KV cache and recurrent states get
 * fake-quantizers that run inside the graph.
 *
 *     quant: { use: quantize, model: $base, weights: w4-g64, activations: a8, kv: kv4 }
 *     mixed: { use: quantize, model: $base, weights: w4-g64, select: [{ sites: mlp.down_proj, weights: w8-g64 }] }
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Problem } from "../src/engine/Problem.ts"
import * as Stage from "../src/engine/Stage.ts"
import * as Method from "../src/methods/Method.ts"
import * as Family from "../src/models/Family.ts"
import * as Model from "./Model.ts"
import * as Plugin from "./Plugin.ts"
import * as Select from "./Select.ts"
import * as Setting from "./Setting.ts"
import * as Statistics from "./Statistics.ts"

const slot = (schema: Schema.Codec<Setting.Setting, Schema.Json>, description: string) =>
  schema.annotate({ description }).pipe(Schema.withDecodingDefaultKey(Effect.succeed("none" as const)))

/** Everything the settings ask of one method is asked before anything runs. */
const check = (
  { path, setting }: Select.Chosen,
  collected: ReadonlyArray<string> | undefined,
  judge: (method: Method.Any, params: any) => Effect.Effect<unknown, { readonly message: string }>,
) =>
  Effect.gen(function* () {
    if (setting === "none") return
    const { method: name, ...params } = setting
    const method = Setting.methods.get(name)!
    const missing = method.wants.filter((statistic: string) => !(collected ?? []).includes(statistic))
    if (missing.length > 0) {
      const reason =
        collected === undefined
          ? `method ${name} needs statistics (${method.wants.join(", ")}); give stats: $<a calibrate stage>`
          : `method ${name} needs ${missing.join(", ")}, which the calibration did not collect; add it to collect`
      return yield* new Problem({ path: [...path], reason })
    }
    yield* Effect.mapError(judge(method, params), ({ message }) => new Problem({ path: [...path], reason: message }))
  })

export default Stage.make({
  description: "Quantizes weights, activations, the KV cache and recurrent states of a model.",
  version: 1,
  needs: { model: Stage.one(Model.Model), stats: Stage.optional(Statistics.Statistics) },
  params: {
    weights: slot(
      Select.settings.weights,
      "Weights of all linears in the blocks: none, a label such as w4-g64, or { bits, group, symmetric, range, method }.",
    ),
    activations: slot(
      Select.settings.activations,
      "Inputs of all linears in the blocks: none, a label such as a8, or { bits, symmetric, range, method }.",
    ),
    kv: slot(
      Select.settings.kv,
      "The KV cache: none, a label such as kv4, or { bits, keys, values, group, symmetric, range, point, method }.",
    ),
    state: slot(
      Select.settings.state,
      "Recurrent states, after every token: none, a label such as s8, or { bits, group, symmetric, range, method }.",
    ),
    select: Schema.Array(Select.Entry)
      .annotate({
        description: "Overrides by site and layer, in order; later ones win. Names heads and embeddings too.",
      })
      .pipe(Schema.withDecodingDefaultKey(Effect.succeed([]))),
  },
  hints: {},
  gives: Model.Model,
  labels: { weights: Setting.label, activations: Setting.label, kv: Setting.label, state: Setting.label },
  plugins: (params) => {
    const entries = [params, ...params.select]
    const used = entries.flatMap(({ activations, kv, state, weights }) => [weights, activations, kv, state])
    const names = used.flatMap((setting) => (setting === undefined || setting === "none" ? [] : [setting.method]))
    return Effect.forEach([...new Set(names)].toSorted(), (name) => Plugin.path("methods", name, []))
  },
  outline: (params, { model, stats }) =>
    Effect.gen(function* () {
      const { outline } = model
      const selection = yield* Select.select(params, outline)
      const collected = stats?.collected
      /** Lengths of the rows of all weights that a setting is for. */
      const rowsOf = ({ setting }: Select.Chosen) =>
        outline.sites.flatMap(({ shape, site }) => (selection.weights.get(site)?.setting === setting ? [shape[1]] : []))
      for (const [site, chosen] of selection.weights) {
        const { shape, tensor } = outline.sites.find((s) => s.site === site)!
        const target = { tensor, rows: shape[0], cols: shape[1] }
        yield* check(chosen, collected, (method, params) =>
          method.slot === "weights"
            ? Effect.mapError(method.plan(params, target), (error) => Method.forAll(error, rowsOf(chosen)))
            : Effect.void,
        )
      }
      for (const chosen of selection.activations.values()) yield* check(chosen, collected, () => Effect.void)
      const heads = Family.heads(outline.shape)
      for (const chosen of selection.kv.values()) {
        if (heads === undefined && chosen.setting !== "none") {
          const reason = `${model.family} has no KV cache: its layers keep a recurrent state; write kv: none`
          return yield* new Problem({ path: chosen.path, reason })
        }
        yield* check(chosen, collected, (method, params) =>
          method.slot === "kv" ? method.plan(params, heads!.dim) : Effect.void,
        )
      }
      for (const [layer, chosen] of selection.state) {
        if (outline.states.length === 0 && chosen.setting !== "none") {
          const reason = `${model.family} keeps no recurrent state: its layers keep keys and values; write state: none`
          return yield* new Problem({ path: chosen.path, reason })
        }
        for (const { dims } of outline.states.filter((state) => state.layer === layer))
          yield* check(chosen, collected, (method, params) =>
            method.slot === "state" ? method.quantizer(params, dims[0]) : Effect.void,
          )
      }
      return model
    }),
  run: Effect.fnUntraced(function* (params, inputs, context) {
    const { quantize } = yield* Effect.promise(() => import("./Quantizing.ts"))
    return yield* quantize(params, inputs, context)
  }),
})
