/**
 * Text to token ids and back, by the `tokenizer.json` of a checkpoint. No special token is ever added: a task that
 * wants one before its text says so. Text that spells a special token (`</s>`) becomes that token, as in Hugging Face
 * tokenizers.
 */
import { Tokenizer as Encoder } from "@huggingface/tokenizers"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Json from "./Json.ts"

export interface Tokenizer {
  /** Begins a sequence; `null` for a model without such a token. */
  readonly bos: number | null
  /** Any of these ends a text. */
  readonly eos: ReadonlyArray<number>
  /** Time grows faster than the text for some vocabularies: encode documents, not corpora. */
  readonly encode: (text: string) => Effect.Effect<Int32Array<ArrayBuffer>, Unencodable>
  /** Special tokens are spelled out. */
  readonly decode: (ids: ArrayLike<number>) => string
}

/** What the model's config.json says of its tokens. */
export interface ModelTokens {
  readonly vocab_size: number
  readonly bos_token_id?: number | null
  readonly eos_token_id?: number | ReadonlyArray<number> | null
}

/** A tokenizer file that is not one. */
export class BadTokenizer extends Schema.TaggedError<BadTokenizer>()("BadTokenizer", {
  file: Schema.Literals(["tokenizer.json", "tokenizer_config.json"]),
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file} cannot be used: ${this.reason}`
  }
}

/** A token beyond the rows of the model's embedding: the files belong to different models. */
export class VocabularyMismatch extends Schema.TaggedError<VocabularyMismatch>()("VocabularyMismatch", {
  token: Schema.String,
  id: Schema.Int,
  vocabulary: Schema.Int,
}) {
  override get message() {
    return `the tokenizer does not match the vocabulary: ${this.token} has the id ${this.id}, the model's vocab_size is ${this.vocabulary}`
  }
}

/** Text for which the vocabulary has neither a token nor an unknown token. */
export class Unencodable extends Schema.TaggedError<Unencodable>()("Unencodable", { text: Schema.String }) {
  override get message() {
    return `the vocabulary has no token for ${JSON.stringify(this.text)}, and no unknown token`
  }
}

/**
 * A tokenizer from the bytes of `tokenizer.json` and, where there is one, `tokenizer_config.json`. The ids of config.json
 * win over the token names of tokenizer_config.json.
 */
export const make = Effect.fn("Tokenizer.make")(function* (
  files: { readonly tokenizer: Uint8Array; readonly config: Uint8Array | undefined },
  model: ModelTokens,
) {
  const config = files.config === undefined ? {} : yield* parse("tokenizer_config.json", files.config)
  const tokenizer = yield* parse("tokenizer.json", files.tokenizer)
  yield* checkVocabulary(tokenizer, model.vocab_size)
  const encoder = yield* Effect.try({
    try: () => new Encoder(tokenizer, config),
    catch: (cause) => new BadTokenizer({ file: "tokenizer.json", reason: (cause as Error).message }),
  })
  const named = (key: string) => encoder.token_to_id(contentOf(config[key]) ?? "")
  const eos = model.eos_token_id ?? named("eos_token")
  return {
    bos: model.bos_token_id ?? named("bos_token") ?? null,
    eos: eos === undefined ? [] : typeof eos === "number" ? [eos] : eos,
    encode: (text) => encode(encoder, text),
    decode: (ids) => decode(encoder, ids),
  } satisfies Tokenizer as Tokenizer
})

const parse = Effect.fnUntraced(function* (file: BadTokenizer["file"], bytes: Uint8Array) {
  const value = yield* Effect.try({
    try: () => JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as unknown,
    catch: (cause) => new BadTokenizer({ file, reason: (cause as Error).message }),
  })
  if (!Json.isRecord(value)) return yield* new BadTokenizer({ file, reason: "it is no JSON object" })
  return value
})

/** A special token is written as its text, or as an object that holds the text. */
const contentOf = (token: unknown): string | undefined => {
  const content = Json.isRecord(token) ? token["content"] : token
  return typeof content === "string" ? content : undefined
}

/** Every token with its id: the vocabulary is a table, or for Unigram a list; added tokens stand beside it. */
const tokensOf = (tokenizer: { readonly [key: string]: unknown }): ReadonlyArray<readonly [string, unknown]> => {
  const { added_tokens: added, model } = tokenizer
  const vocab = Json.isRecord(model) ? model["vocab"] : undefined
  const own = Array.isArray(vocab)
    ? vocab.map((entry, id) => [String(entry), id] as const)
    : Object.entries(vocab ?? {})
  const others = Array.isArray(added) ? added.filter(Json.isRecord) : []
  return [...own, ...others.map(({ content, id }) => [String(content), id] as const)]
}

/** Before anything is built from the ids. */
const checkVocabulary = Effect.fnUntraced(function* (
  tokenizer: { readonly [key: string]: unknown },
  vocabulary: number,
) {
  for (const [token, id] of tokensOf(tokenizer)) {
    if (!Number.isSafeInteger(id) || (id as number) < 0) {
      const reason = `the id of ${JSON.stringify(token)} is ${JSON.stringify(id)}; expected a whole number`
      return yield* new BadTokenizer({ file: "tokenizer.json", reason })
    }
    if ((id as number) >= vocabulary) return yield* new VocabularyMismatch({ token, id: id as number, vocabulary })
  }
})

const encode = (encoder: Encoder, text: string): Effect.Effect<Int32Array<ArrayBuffer>, Unencodable> => {
  const { ids, tokens } = encoder.encode(text, { add_special_tokens: false })
  // Without an unknown token the library leaves a hole where an id should be.
  const hole = ids.findIndex((id: number) => !Number.isInteger(id))
  return hole === -1 ? Effect.succeed(Int32Array.from(ids)) : Effect.fail(new Unencodable({ text: tokens[hole]! }))
}

const decode = (encoder: Encoder, ids: ArrayLike<number>): string =>
  // The library refuses to decode nothing.
  ids.length === 0
    ? ""
    : encoder.decode(Array.from(ids), { skip_special_tokens: false, clean_up_tokenization_spaces: false })
