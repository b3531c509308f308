/** A GGUF file as a checkpoint: which family it is of, what its config would be, and its tensors by the family's names. */
import * as Effect from "effect/Effect"
import type * as Checkpoint from "../src/data/Checkpoint.ts"
import * as GgufFile from "../src/data/Gguf.ts"
import * as GgufTokenizer from "../src/data/GgufTokenizer.ts"
import * as TensorFile from "../src/data/TensorFile.ts"
import type * as Tokenizer from "../src/data/Tokenizer.ts"
import { Problem } from "../src/engine/Problem.ts"
import * as Family from "../src/models/Family.ts"
import * as Plugin from "./Plugin.ts"

const bad = (reason: string) => new Problem({ path: ["source"], reason })

const read = (path: string) => Effect.mapError(GgufFile.read(path), ({ message }) => bad(message))

/** The elements of a tensor that is small: scaling factors, not weights. */
const LARGEST = 1 << 16

export const family = Effect.fnUntraced(function* (path: string) {
  const { catalog, metadata } = yield* read(path)
  for (const name of Plugin.names("models")) {
    const file = yield* Plugin.path("models", name, ["source"])
    const { gguf } = yield* Plugin.load(file, Family.isFamily)
    if (gguf?.is(metadata) !== true) continue
    const floats = (tensor: string): Float32Array | undefined => {
      const entry = catalog.get(tensor)
      const count = entry?.shape.reduce((product, n) => product * n, 1) ?? 0
      if (entry === undefined) return undefined
      if (count > LARGEST) throw new Error(`tensor ${tensor} has ${count} elements; expected a few settings`)
      const values = new Float32Array(count)
      TensorFile.readFloats(entry, 0, count, values)
      return values
    }
    const shapes = new Map([...catalog.values()].map(({ shape, tensor }) => [tensor, shape]))
    const config = yield* Effect.try({
      try: () => gguf.config(metadata, floats, shapes),
      catch: (cause) => bad(`${path}: ${(cause as Error).message}`),
    })
    return {
      file,
      config,
      catalog: (outline: Family.Outline, decoded: unknown) => named(path, catalog, gguf, outline, decoded),
    }
  }
  const architecture = metadata.get("general.architecture")
  if (architecture === undefined) return yield* bad(`${path}: the key general.architecture is missing`)
  return yield* bad(`${path}: unknown architecture '${String(architecture).slice(0, 100)}'; ${yield* known}`)
})

const known = Effect.gen(function* () {
  const names: Array<string> = []
  for (const name of Plugin.names("models")) {
    const { gguf } = yield* Plugin.load(yield* Plugin.path("models", name, ["source"]), Family.isFamily)
    if (gguf !== undefined) names.push(name)
  }
  return `GGUF files of these families are read: ${names.join(", ")}`
})

const withoutOnes = (shape: ReadonlyArray<number>) => shape.filter((n) => n !== 1).join()

/** The file's tensors by the catalog's names, parts cut out of stacks. */
const named = Effect.fnUntraced(function* (
  path: string,
  catalog: TensorFile.Catalog,
  gguf: Family.Gguf<unknown>,
  outline: Family.Outline,
  config: unknown,
) {
  const entries = new Map<string, Checkpoint.Entry>()
  for (const entry of catalog.values()) {
    const targets = gguf.tensors(entry.tensor, config)
    if (targets === undefined) {
      return yield* bad(`${path} has the tensor ${entry.tensor}, which the architecture has no place for`)
    }
    for (const { name, part = { index: 0, of: 1 }, transforms = [] } of targets) {
      const twin = entries.get(name)
      if (twin !== undefined) return yield* bad(`${path}: tensors ${twin.tensor} and ${entry.tensor} are both ${name}`)
      const [first = 1, ...rest] = entry.shape
      const cut = part.of === 1 ? entry.shape : [first / part.of, ...rest]
      // The same matrix may be written with an axis of one, or the other way round where a transform turns it.
      const expected = outline.catalog.get(name)
      const turned = transforms.some(({ kind }) => kind === "transpose") ? cut.toReversed() : cut
      const fits = expected !== undefined && withoutOnes(expected) === withoutOnes(turned)
      if (part.of !== 1 && expected !== undefined && !fits) {
        const wanted = `${part.of} parts of [${expected.join(", ")}]`
        return yield* bad(`${path}: tensor ${entry.tensor} is [${entry.shape.join(", ")}]; its keys make it ${wanted}`)
      }
      const bytes = entry.bytes / part.of
      const offset = entry.offset + part.index * bytes
      entries.set(name, { ...entry, shape: fits ? expected : turned, bytes, offset, transforms })
    }
  }
  return entries as Checkpoint.Catalog
})

/** `tokenizer.chat_template`, and those with a name of their own: `tokenizer.chat_template.<name>`. */
export const chatTemplates = Effect.fnUntraced(function* (path: string) {
  const { metadata } = yield* read(path)
  const templates = [...metadata].flatMap(([key, value]) => {
    const found = /^tokenizer\.chat_template(?:\.(.+))?$/.exec(key)
    return found !== null && typeof value === "string" ? [[found[1] ?? "default", value] as const] : []
  })
  return Object.fromEntries(templates)
})

/** What generation_config.json would say: the tokens that end a text, a turn, or a message. */
export const generation = Effect.fnUntraced(function* (path: string) {
  const { metadata } = yield* read(path)
  const ids = ["eos", "eot", "eom"].map((name) => metadata.get(`tokenizer.ggml.${name}_token_id`))
  // All bits set: there is none.
  const known = [...new Set(ids.filter((id) => typeof id === "number" && id !== 2 ** 32 - 1))]
  return known.length === 0 ? {} : { eos_token_id: known }
})

/** tokenizer.json and tokenizer_config.json, made from the file. */
export const tokenizer = Effect.fnUntraced(function* (path: string) {
  const { metadata } = yield* GgufFile.read(path)
  const { config, tokenizer } = yield* GgufTokenizer.convert(path, metadata)
  const bytes = (object: object) => new TextEncoder().encode(JSON.stringify(object))
  return { tokenizer: bytes(tokenizer), config: bytes(config) } satisfies Tokenizer.Files
})
