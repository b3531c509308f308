/** Runs in a worker: text to tokens and back. Encoding a long text would otherwise hold up the main thread. */
import * as Effect from "effect/Effect"
import * as Tokenizer from "../data/Tokenizer.ts"

export interface Files {
  /** Identifies the tokenizer: equal keys mean equal files. */
  readonly key: string
  /** By role, see `data/Tokenizer.ts`. */
  readonly files: { readonly [role: string]: SharedArrayBuffer }
  readonly model: Tokenizer.ModelTokens
}

const made = new Map<string, Promise<Tokenizer.Tokenizer>>()

const open = ({ files: buffers, key, model }: Files) => {
  const known = made.get(key)
  if (known) return known
  const files = Object.fromEntries(Object.entries(buffers).map(([role, buffer]) => [role, new Uint8Array(buffer)]))
  const fresh = Effect.runPromise(Tokenizer.make(files, model))
  made.set(key, fresh)
  return fresh
}

export const encode = async ({
  files,
  rendered,
  texts,
}: {
  readonly files: Files
  readonly texts: ReadonlyArray<string>
  /** Are they of a chat template? */
  readonly rendered: boolean
}) => {
  const { encode, encodePrompt } = await open(files)
  return Effect.runPromise(Effect.forEach(texts, rendered ? encodePrompt : encode))
}

export const decode = async ({
  files,
  sequences,
}: {
  readonly files: Files
  readonly sequences: ReadonlyArray<ReadonlyArray<number>>
}) => {
  const { decode } = await open(files)
  return sequences.map((ids) => decode(ids))
}
