/**
 * A checkpoint folder in the Hugging Face layout: config.json, a tokenizer, and weights in safetensors or in PyTorch's
 * format, one file or several with an index. What the folder holds and what the family's description asks for must be the
 * same set of tensors: nothing is skipped, nothing is made up.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { type Dtype, isDtype } from "../math/Elements.ts"
import type { Transform } from "../math/Transform.ts"
import * as Json from "./Json.ts"
import * as Safetensors from "./Safetensors.ts"
import * as TensorFile from "./TensorFile.ts"
import * as TorchFile from "./TorchFile.ts"

/** The folder is not a checkpoint, or not the one its config describes. */
export class BadCheckpoint extends Schema.TaggedError<BadCheckpoint>()("BadCheckpoint", {
  file: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file}: ${this.reason}`
  }
}

/** The files that make a tokenizer, by their roles in `Tokenizer.Files`. */
const TOKENIZER = {
  tokenizer: "tokenizer.json",
  sentencePiece: "tokenizer.model",
  vocabulary: "vocab.json",
  merges: "merges.txt",
  config: "tokenizer_config.json",
  specialTokens: "special_tokens_map.json",
  addedTokens: "added_tokens.json",
} as const
export type TokenizerRole = keyof typeof TOKENIZER
export const TOKENIZER_ROLES = Object.keys(TOKENIZER) as ReadonlyArray<TokenizerRole>

/** Absolute paths by role. */
export interface Files {
  readonly config: string
  /** Those that are there. Which of them make the tokenizer is the tokenizer's to say. */
  readonly tokenizer: { readonly [role in TokenizerRole]?: string }
  /** generation_config.json and chat_template.jinja, where they are. */
  readonly generation: string | undefined
  readonly chatTemplate: string | undefined
  /** What `catalog` takes: the file, or the index. */
  readonly weights: string
}

/** Safetensors where there are any: a folder often holds the same weights in both formats. */
const WEIGHTS = [
  "model.safetensors.index.json",
  "model.safetensors",
  "pytorch_model.bin.index.json",
  "pytorch_model.bin",
] as const

/** Absolute paths by name: what a checkpoint may be made of. */
export type Listing = ReadonlyMap<string, string>

/** The files of a folder. */
export const listing = (folder: string): Effect.Effect<Listing, BadCheckpoint> =>
  Effect.try({
    try: () => new Map(readdirSync(folder).map((name) => [name, join(folder, name)])),
    catch: (cause) => new BadCheckpoint({ file: folder, reason: `cannot be listed: ${(cause as Error).message}` }),
  })

/** The weights alone: the index where there is one, else the one file. `at` is named in errors. */
export const weights = (listing: Listing, at: string): Effect.Effect<string, BadCheckpoint> => {
  const found = WEIGHTS.find((name) => listing.has(name))
  return found === undefined
    ? Effect.fail(new BadCheckpoint({ file: at, reason: `holds no weights: none of ${WEIGHTS.join(", ")}` }))
    : Effect.succeed(listing.get(found)!)
}

export const files = (listing: Listing, at: string): Effect.Effect<Files, BadCheckpoint> =>
  Effect.gen(function* () {
    const config = listing.get("config.json")
    if (config === undefined) {
      const reason = "no config.json; expected a folder in the Hugging Face layout"
      return yield* new BadCheckpoint({ file: at, reason })
    }
    const tokenizer = Object.entries(TOKENIZER).flatMap(([role, name]) => {
      const path = listing.get(name)
      return path === undefined ? [] : [[role, path] as const]
    })
    return {
      config,
      tokenizer: Object.fromEntries(tokenizer),
      generation: listing.get("generation_config.json"),
      chatTemplate: listing.get("chat_template.jinja"),
      weights: yield* weights(listing, at),
    }
  })

/** A tensor of a file, and what has to be done to its values; its shape is that of the result. */
export type Entry = TorchFile.Entry & { readonly transforms?: ReadonlyArray<Transform> }
export type Catalog = ReadonlyMap<string, Entry>

/** The catalog of a weight file or index, by its name. */
export const catalog = (
  weights: string,
): Effect.Effect<Catalog, TensorFile.Unreadable | TensorFile.BadFile | TensorFile.BadTensor> =>
  /\.bin(\.index\.json)?$/.test(weights) ? TorchFile.read(weights) : Safetensors.read(weights)

/** A JSON object from a file. */
export const readObject = (
  file: string,
): Effect.Effect<{ readonly [key: string]: unknown }, BadCheckpoint | TensorFile.Unreadable> =>
  Effect.gen(function* () {
    const text = yield* Effect.try({
      try: () => readFileSync(file, "utf8"),
      catch: (cause) => new TensorFile.Unreadable({ file, reason: (cause as Error).message }),
    })
    const parsed = Json.parse(text)
    if ("problem" in parsed) return yield* new BadCheckpoint({ file, reason: parsed.problem })
    if (!Json.isRecord(parsed.value)) return yield* new BadCheckpoint({ file, reason: "is not a JSON object" })
    return parsed.value
  })

/** What an architecture asks of a checkpoint. */
export interface Expected {
  /** Name -> shape, as stored. */
  readonly catalog: ReadonlyMap<string, ReadonlyArray<number>>
  /** Matrices that are stored as [columns, rows]. */
  readonly transposed: ReadonlySet<string>
  /** Names of tensors that may be there and are left out. */
  readonly ignored: RegExp
  /** The catalog's name of a tensor that some checkpoints call otherwise. */
  readonly rename: (name: string) => string
}

/** Where a tensor of the model is, and how its values come to be. */
export interface Stored {
  /** The file's own name of it. */
  readonly tensor: string
  readonly dtype: Dtype
  /** As the model's description has it. */
  readonly shape: ReadonlyArray<number>
  readonly file: string
  readonly offset: number
  readonly bytes: number
  readonly transforms: ReadonlyArray<Transform>
}

/**
 * Exactly the tensors that are expected, by the catalog's names. Anything else missing, extra, misshapen or of a type that
 * is no weight is an error.
 */
export const match = (
  weights: string,
  catalog: Catalog,
  { catalog: expected, ignored, rename, transposed }: Expected,
): Effect.Effect<ReadonlyMap<string, Stored>, BadCheckpoint | TensorFile.UnsupportedDtype> =>
  Effect.gen(function* () {
    // A GGUF file has its config in itself.
    const asker = weights.endsWith(".gguf") ? "the file's own keys ask for" : "config.json asks for"
    const found = new Map<string, Entry>()
    const extra: Array<string> = []
    for (const [name, entry] of catalog) {
      const known = rename(name)
      const twin = found.get(known)
      if (expected.has(known) && twin !== undefined) {
        const reason = `tensors ${twin.tensor} and ${name} are both ${known}`
        return yield* new BadCheckpoint({ file: weights, reason })
      }
      if (expected.has(known)) found.set(known, entry)
      else if (!ignored.test(known)) extra.push(name)
    }
    const missing = [...expected.keys()].filter((name) => !found.has(name))
    const list = (names: ReadonlyArray<string>) =>
      names.slice(0, 3).map(TensorFile.named).join(", ") + (names.length > 3 ? ` and ${names.length - 3} more` : "")
    if (missing.length + extra.length > 0) {
      const parts = [
        missing.length > 0 ? `lacks ${list(missing)}, which ${asker}` : undefined,
        extra.length > 0 ? `has ${list(extra)}, which the architecture has no place for` : undefined,
      ]
      return yield* new BadCheckpoint({ file: weights, reason: parts.filter((p) => p !== undefined).join("; and it ") })
    }
    const stored = new Map<string, Stored>()
    for (const [name, shape] of expected) {
      const { strides, transforms = [], ...entry } = found.get(name)!
      const { dtype } = entry
      if (entry.shape.join() !== shape.join()) {
        const reason = `tensor ${entry.tensor} is [${entry.shape.join(", ")}]; config.json makes it [${shape.join(", ")}]`
        return yield* new BadCheckpoint({ file: weights, reason })
      }
      if (!isDtype(dtype)) {
        return yield* new TensorFile.UnsupportedDtype({ file: entry.file, tensor: entry.tensor, dtype })
      }
      const turned = transposed.has(name)
      stored.set(name, {
        ...entry,
        dtype,
        shape: turned ? shape.toReversed() : shape,
        transforms: [
          ...(strides === undefined ? [] : [{ kind: "strided" as const, shape, strides }]),
          ...transforms,
          ...(turned ? [{ kind: "transpose" as const, columns: shape[0]! }] : []),
        ],
      })
    }
    return stored
  })

/** Tensors that are left out as copies of the tensor `of`: heads that are stored although they are tied. */
export const copies = (
  catalog: Catalog,
  { catalog: expected, ignored, rename }: Expected,
  of: string,
): ReadonlyArray<Entry> =>
  [...catalog].flatMap(([name, entry]) => {
    const known = rename(name)
    const same = entry.shape.join() === expected.get(of)?.join()
    return same && !expected.has(known) && ignored.test(known) ? [entry] : []
  })
