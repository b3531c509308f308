/** `use: load`: a checkpoint becomes a model. Weights stay in their files; the artifact refers to them by digest. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Checkpoint from "../src/data/Checkpoint.ts"
import { Problem } from "../src/engine/Problem.ts"
import * as Stage from "../src/engine/Stage.ts"
import { atSource, describe, familyFile, templates } from "./Architecture.ts"
import * as Model from "./Model.ts"

const SOURCE =
  "bundled:<name> (comes with Assay), dir:<folder> (in the Hugging Face layout), gguf:<file> (llama.cpp's format), hub:<owner>/<name>@<revision>, or hub:<owner>/<name>@<revision>#<file>.gguf"

export default Stage.make({
  description: "Reads a checkpoint: config, tokenizer, weights.",
  version: 1,
  needs: {},
  params: {
    source: Schema.NonEmptyString.annotate({ description: `Where the checkpoint is: ${SOURCE}.` }),
    chat_template: Schema.optionalKey(
      Schema.NonEmptyString.annotate({
        description: "A file with the chat template (Jinja) to use instead of the checkpoint's: ./vicuna.jinja.",
      }),
    ),
  },
  hints: {},
  gives: Model.Model,
  sources: ({ chat_template, source }, locate) =>
    Effect.gen(function* () {
      const template =
        chat_template === undefined
          ? undefined
          : yield* Effect.mapError(
              locate.resolve(`file:${chat_template}`),
              ({ reason }) => new Problem({ path: ["chat_template"], reason }),
            )
      const given = template === undefined ? {} : { chatTemplate: template }
      const at = <A>(effect: Effect.Effect<A, { readonly reason: string }>) =>
        Effect.mapError(effect, ({ reason }) => new Problem({ path: ["source"], reason }))
      const [, gguf] = /^gguf:(.*)$/.exec(source) ?? []
      if (gguf !== undefined) return { ...given, gguf: yield* at(locate.resolve(`file:${gguf}`)) }
      const remote = source.startsWith("hub:") ? yield* at(locate.remote(source, {})) : undefined
      const stored = [...(remote ?? [])].find(([name]) => name.endsWith(".gguf"))
      if (stored !== undefined) return { ...given, gguf: stored[1] }
      if (remote === undefined && !/^(bundled|dir):/.test(source)) {
        return yield* new Problem({ path: ["source"], reason: `'${source}' names no source; write ${SOURCE}` })
      }
      // Of the hub, only what was asked for: the folder may hold more, from other programs.
      const listing = remote ?? (yield* atSource(Checkpoint.listing(yield* at(locate.resolve(source)))))
      const files = yield* atSource(Checkpoint.files(listing, source))
      const catalog = yield* atSource(Checkpoint.catalog(files.weights))
      const sharded = files.weights.endsWith(".json")
      const shards = sharded ? [...new Set([...catalog.values()].map(({ file }) => file))].toSorted() : []
      return {
        config: files.config,
        ...(files.generation !== undefined && { generation: files.generation }),
        ...(files.chatTemplate !== undefined && { chatTemplate: files.chatTemplate }),
        ...given,
        ...Object.fromEntries(Object.entries(files.tokenizer).map(([role, path]) => [`tokenizer.${role}`, path])),
        ...(sharded ? { index: files.weights } : { weights: files.weights }),
        ...Object.fromEntries(shards.map((file, i) => [`shard${i}`, file])),
      }
    }),
  plugins: (_params, sources) => Effect.map(familyFile(sources), (file) => [file]),
  outline: (_params, _inputs, sources) =>
    Effect.gen(function* () {
      const { catalog, decoded, family, name, outline, weights } = yield* describe(sources)
      yield* atSource(Checkpoint.match(weights, catalog, outline))
      return { family: name, outline, templates: yield* templates(sources, family, decoded) }
    }),
  run: Effect.fnUntraced(function* (_params, _inputs, context) {
    const { load } = yield* Effect.promise(() => import("./Loading.ts"))
    return yield* load(context)
  }),
})
