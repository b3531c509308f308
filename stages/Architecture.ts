/** From a checkpoint's files to the family that runs it and everything that follows from its config alone. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import * as ChatTemplate from "../src/data/ChatTemplate.ts"
import * as Checkpoint from "../src/data/Checkpoint.ts"
import * as Json from "../src/data/Json.ts"
import { Problem } from "../src/engine/Problem.ts"
import * as Family from "../src/models/Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Plugin from "./Plugin.ts"

/** What can be wrong with the files is wrong with `source`. */
export const atSource = <A, R>(
  effect: Effect.Effect<A, { readonly message: string }, R>,
): Effect.Effect<A, Problem, R> =>
  Effect.mapError(effect, ({ message }) => new Problem({ path: ["source"], reason: message }))

/**
 * Absolute paths by slot: `gguf`; or `config`, `index` or `weights`, `tokenizer.<role>`, and `generation` where there is
 * one. `chatTemplate` is the study's, or else the checkpoint's file.
 */
export type Paths = { readonly [slot: string]: string }

const bad = (reason: string) => new Problem({ path: ["source"], reason })

/** Where config.json says that the weights are codes of some other program. */
const QUANTIZED = ["quantization_config", "compression_config"]

/** The file of the family that config.json names, and the config as that family spells it. */
const named = Effect.fnUntraced(function* (config: string) {
  const object = yield* atSource(Checkpoint.readObject(config))
  const { model_type: type } = object
  if (typeof type !== "string") return yield* bad(`${config}: has no model_type`)
  for (const key of QUANTIZED) {
    const value = object[key]
    if (value == null) continue
    const method = Json.isRecord(value) ? value["quant_method"] : undefined
    const how = typeof method === "string" ? `quant_method '${method.slice(0, 100)}'` : "no quant_method"
    return yield* bad(
      `${config}: has ${key} (${how}): the checkpoint is quantized already; load the one it was made from`,
    )
  }
  const known = Plugin.names("models")
  for (const name of known.includes(type) ? [type] : known) {
    const file = yield* Plugin.path("models", name, ["source"])
    const { aliases = {} } = yield* Plugin.load(file, Family.isFamily)
    if (!Object.hasOwn(aliases, type)) continue
    const respelled = yield* Effect.try({
      try: () => aliases[type]!(object),
      catch: (cause) => bad(`${config}: ${(cause as Error).message}`),
    })
    return { file, object: respelled }
  }
  // No name is as long, and errors repeat it.
  const file = yield* Effect.mapError(Plugin.path("models", type.slice(0, 100), ["source"]), ({ reason }) =>
    bad(`${config}: unknown architecture: ${reason}`),
  )
  return { file, object }
})

/** The file of the family that config.json or the GGUF file names. */
export const familyFile = (paths: Paths) =>
  paths["gguf"] === undefined
    ? Effect.map(named(paths["config"]!), ({ file }) => file)
    : Effect.map(Gguf.family(paths["gguf"]), ({ file }) => file)

const decode = (file: string, object: { readonly [key: string]: unknown }, source: string) =>
  Effect.gen(function* () {
    const family = yield* Plugin.load(file, Family.isFamily)
    const decoded = yield* Effect.mapError(
      Schema.decodeUnknownEffect(family.config)(object, { errors: "all" }),
      (error) => bad(`${source}: ${String(error.message)}`),
    )
    const excess = Family.excess(family, decoded)
    if (excess !== undefined) return yield* bad(`${source}: ${excess}`)
    return { file, name: Plugin.nameOf(file), family, object, decoded, outline: Family.outline(family, decoded) }
  })

/** The family's description of this config (shape, catalog, sites), and the catalog of the weights as it calls them. */
export const describe = (paths: Paths) =>
  Effect.gen(function* () {
    const gguf = paths["gguf"]
    if (gguf !== undefined) {
      const found = yield* Gguf.family(gguf)
      const described = yield* decode(found.file, found.config, gguf)
      return { ...described, weights: gguf, catalog: yield* found.catalog(described.outline, described.decoded) }
    }
    const { file, object } = yield* named(paths["config"]!)
    const described = yield* decode(file, object, paths["config"]!)
    const weights = (paths["index"] ?? paths["weights"])!
    return { ...described, weights, catalog: yield* atSource(Checkpoint.catalog(weights)) }
  })

/** Chat templates by name: the study's or the checkpoint's file, or else what the checkpoint declares, or its family. */
export const templates = <C>(paths: Paths, family: Family.Family<C>, config: C) =>
  Effect.gen(function* () {
    const { chatTemplate: file, gguf, "tokenizer.config": tokenizer } = paths
    if (file !== undefined) {
      const text = yield* Effect.try({
        try: () => new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file)),
        catch: (cause) => bad(`${file}: ${(cause as Error).message}`),
      })
      return { default: text }
    }
    const own =
      gguf !== undefined ? yield* Gguf.chatTemplates(gguf) : tokenizer !== undefined ? yield* declaredIn(tokenizer) : {}
    const familys = family.chatTemplate?.(config)
    return Object.keys(own).length > 0 || familys === undefined ? own : { default: familys }
  })

const declaredIn = Effect.fnUntraced(function* (file: string) {
  const { chat_template } = yield* atSource(Checkpoint.readObject(file))
  return yield* Effect.mapError(ChatTemplate.declared(chat_template), ({ message }) => bad(`${file}: ${message}`))
})
