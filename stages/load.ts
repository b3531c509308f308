/** `use: load`: a checkpoint folder becomes a model. Weights stay in their files; the artifact refers to them by digest. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Checkpoint from "../src/data/Checkpoint.ts"
import * as Safetensors from "../src/data/Safetensors.ts"
import { Problem } from "../src/engine/Problem.ts"
import * as Stage from "../src/engine/Stage.ts"
import { atSource, describe, familyFile } from "./Architecture.ts"
import * as Model from "./Model.ts"

const SOURCE = "bundled:<name> (comes with Assay) or dir:<folder> (a folder in the Hugging Face layout)"

/** The checkpoint's weight file or index, from the planned files. */
const weightsOf = (sources: { readonly [slot: string]: string }) => sources["index"] ?? sources["weights"]!

export default Stage.make({
  description: "Reads a checkpoint: config, tokenizer, weights.",
  version: 1,
  needs: {},
  params: {
    source: Schema.NonEmptyString.annotate({ description: `Where the checkpoint is: ${SOURCE}.` }),
  },
  hints: {},
  gives: Model.Model,
  sources: ({ source }, locate) =>
    Effect.gen(function* () {
      if (!/^(bundled|dir):/.test(source)) {
        return yield* new Problem({ path: ["source"], reason: `'${source}' names no source; write ${SOURCE}` })
      }
      const folder = yield* Effect.mapError(
        locate.resolve(source),
        ({ reason }) => new Problem({ path: ["source"], reason }),
      )
      const files = yield* atSource(Checkpoint.files(folder))
      const catalog = yield* atSource(Safetensors.read(files.weights))
      const shards = [...new Set([...catalog.values()].map(({ file }) => file))].toSorted()
      const sharded = files.weights.endsWith(".json")
      return {
        config: files.config,
        tokenizer: files.tokenizer,
        ...(files.tokenizerConfig !== undefined && { tokenizerConfig: files.tokenizerConfig }),
        ...(sharded && { index: files.weights }),
        ...(sharded ? Object.fromEntries(shards.map((file, i) => [`shard${i}`, file])) : { weights: files.weights }),
      }
    }),
  plugins: (_params, sources) => Effect.map(familyFile(sources["config"]!), (file) => [file]),
  outline: (_params, _inputs, sources) =>
    Effect.gen(function* () {
      const { name, outline } = yield* describe(sources["config"]!)
      const weights = weightsOf(sources)
      const catalog = yield* atSource(Safetensors.read(weights))
      yield* atSource(Checkpoint.match(weights, catalog, outline))
      return { family: name, outline }
    }),
  run: Effect.fnUntraced(function* (_params, _inputs, context) {
    const { load } = yield* Effect.promise(() => import("./Loading.ts"))
    return yield* load(context)
  }),
})
