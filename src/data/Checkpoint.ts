/**
 * A checkpoint folder in the Hugging Face layout: config.json, tokenizer.json, and weights as model.safetensors or as
 * several files with an index. What the folder holds and what the family's description asks for must be the same set
 * of tensors: nothing is skipped, nothing is made up.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import * as Json from "./Json.ts"
import * as Safetensors from "./Safetensors.ts"

/** The folder is not a checkpoint, or not the one its config describes. */
export class BadCheckpoint extends Schema.TaggedError<BadCheckpoint>()("BadCheckpoint", {
  file: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file}: ${this.reason}`
  }
}

/** Absolute paths by role; weight files in the order of their names. */
export interface Files {
  readonly config: string
  readonly tokenizer: string
  readonly tokenizerConfig: string | undefined
  /** What `Safetensors.read` takes: the file, or the index. */
  readonly weights: string
}

const need = (folder: string, name: string, hint: string): Effect.Effect<string, BadCheckpoint> =>
  existsSync(join(folder, name))
    ? Effect.succeed(join(folder, name))
    : Effect.fail(new BadCheckpoint({ file: folder, reason: `no ${name}${hint}` }))

/** The weights alone: the index where there is one, else the one file. */
export const weights = (folder: string): Effect.Effect<string, BadCheckpoint> => {
  const index = "model.safetensors.index.json"
  return existsSync(join(folder, index))
    ? Effect.succeed(join(folder, index))
    : need(folder, "model.safetensors", ` and no ${index}; weights must be in safetensors`)
}

export const files = (folder: string): Effect.Effect<Files, BadCheckpoint> =>
  Effect.gen(function* () {
    const tokenizerConfig = join(folder, "tokenizer_config.json")
    return {
      config: yield* need(folder, "config.json", "; expected a folder in the Hugging Face layout"),
      tokenizer: yield* need(folder, "tokenizer.json", " beside config.json; save the fast tokenizer into the folder"),
      tokenizerConfig: existsSync(tokenizerConfig) ? tokenizerConfig : undefined,
      weights: yield* weights(folder),
    }
  })

/** A JSON object from a file. */
export const readObject = (
  file: string,
): Effect.Effect<{ readonly [key: string]: unknown }, BadCheckpoint | Safetensors.Unreadable> =>
  Effect.gen(function* () {
    const text = yield* Effect.try({
      try: () => readFileSync(file, "utf8"),
      catch: (cause) => new Safetensors.Unreadable({ file, reason: (cause as Error).message }),
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
  /** Names of tensors that may be there and are left out. */
  readonly ignored: RegExp
  /** The catalog's name of a tensor that some checkpoints call otherwise. */
  readonly rename: (name: string) => string
}

/**
 * The entries of exactly the tensors that are expected, by the catalog's names. Anything else missing, extra, misshapen
 * or of a type that is no weight is an error.
 */
export const match = (
  weights: string,
  catalog: Safetensors.Catalog,
  { catalog: expected, ignored, rename }: Expected,
): Effect.Effect<ReadonlyMap<string, Safetensors.Entry>, BadCheckpoint | Safetensors.UnsupportedDtype> =>
  Effect.gen(function* () {
    const found = new Map<string, Safetensors.Entry>()
    const extra: Array<string> = []
    for (const [name, entry] of catalog) {
      const known = rename(name)
      const twin = found.get(known)
      if (expected.has(known) && twin !== undefined) {
        return yield* new BadCheckpoint({
          file: weights,
          reason: `tensors ${twin.tensor} and ${name} are both ${known}`,
        })
      }
      if (expected.has(known)) found.set(known, entry)
      else if (!ignored.test(known)) extra.push(name)
    }
    const missing = [...expected.keys()].filter((name) => !found.has(name))
    const list = (names: ReadonlyArray<string>) =>
      names.slice(0, 3).join(", ") + (names.length > 3 ? ` and ${names.length - 3} more` : "")
    if (missing.length + extra.length > 0) {
      const parts = [
        missing.length > 0 ? `lacks ${list(missing)}, which config.json asks for` : undefined,
        extra.length > 0 ? `has ${list(extra)}, which the architecture has no place for` : undefined,
      ]
      return yield* new BadCheckpoint({ file: weights, reason: parts.filter((p) => p !== undefined).join("; and it ") })
    }
    const entries = new Map<string, Safetensors.Entry>()
    for (const [name, shape] of expected) {
      const entry = found.get(name)!
      if (entry.shape.join() !== shape.join()) {
        const reason = `tensor ${entry.tensor} is [${entry.shape.join(", ")}]; config.json makes it [${shape.join(", ")}]`
        return yield* new BadCheckpoint({ file: weights, reason })
      }
      if (!Safetensors.isWeight(entry.dtype)) {
        return yield* new Safetensors.UnsupportedDtype({ file: entry.file, tensor: entry.tensor, dtype: entry.dtype })
      }
      entries.set(name, entry)
    }
    return entries
  })
