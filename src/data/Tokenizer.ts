/**
 * Text to token ids and back, by what a checkpoint holds: `tokenizer.json`; or a SentencePiece model, `tokenizer.model`;
 * or `vocab.json` with `merges.txt`. No special token is ever added: a task that wants one before its text says so. Text
 * that spells a special token (`</s>`) becomes that token, as in Hugging Face tokenizers, whose ids these are.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as AddedTokens from "./AddedTokens.ts"
import * as ChatGlm from "./ChatGlm.ts"
import * as Json from "./Json.ts"
import * as SentencePiece from "./SentencePiece.ts"
import type { Malformed } from "./tokenizer/Component.ts"
import { compile, type Pipeline } from "./tokenizer/Pipeline.ts"
import * as VocabMerges from "./VocabMerges.ts"

export interface Tokenizer {
  /** Begins a sequence; `null` for a model without such a token. */
  readonly bos: number | null
  /** Any of these ends a text. */
  readonly eos: ReadonlyArray<number>
  /** Further ids with which every sequence of this model begins; ChatGLM's `[gMASK]` and `sop`, elsewhere none. */
  readonly prefix: ReadonlyArray<number>
  /** The special tokens by their names in the files: `bos_token`. */
  readonly special: { readonly [name: string]: string }
  readonly encode: (text: string) => Effect.Effect<Int32Array<ArrayBuffer>, Unencodable>
  /** A rendered chat template. Differs from `encode` where a model has commands that are no text: ChatGLM's. */
  readonly encodePrompt: (prompt: string) => Effect.Effect<Int32Array<ArrayBuffer>, Unencodable>
  /** Special tokens are spelled out; an id without a token is nothing. */
  readonly decode: (ids: ArrayLike<number>) => string
}

/** What the model's config.json says of its tokens. */
export interface ModelTokens {
  readonly vocab_size: number
  readonly bos_token_id?: number | null
  readonly eos_token_id?: number | ReadonlyArray<number> | null
}

/** The bytes of a checkpoint's files, as far as there are any. */
export interface Files {
  /** tokenizer.json: where it is, the next three are not looked at. */
  readonly tokenizer?: Uint8Array | undefined
  /** tokenizer.model */
  readonly sentencePiece?: Uint8Array | undefined
  /** vocab.json */
  readonly vocabulary?: Uint8Array | undefined
  /** merges.txt */
  readonly merges?: Uint8Array | undefined
  /** tokenizer_config.json */
  readonly config?: Uint8Array | undefined
  /** special_tokens_map.json */
  readonly specialTokens?: Uint8Array | undefined
  /** added_tokens.json */
  readonly addedTokens?: Uint8Array | undefined
}

const NAMES = {
  tokenizer: "tokenizer.json",
  sentencePiece: "tokenizer.model",
  vocabulary: "vocab.json",
  merges: "merges.txt",
  config: "tokenizer_config.json",
  specialTokens: "special_tokens_map.json",
  addedTokens: "added_tokens.json",
} as const satisfies { readonly [role in keyof Files]-?: string }

/** A tokenizer file that is not one. */
export class BadTokenizer extends Schema.TaggedError<BadTokenizer>()("BadTokenizer", {
  file: Schema.Literals(Object.values(NAMES)),
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file} cannot be used: ${this.reason}`
  }
}

/** None of the files that make a tokenizer, or one without the other. */
export class NoTokenizer extends Schema.TaggedError<NoTokenizer>()("NoTokenizer", {
  found: Schema.Array(Schema.String),
}) {
  override get message() {
    const found = this.found.length === 0 ? "none of its files" : `only ${this.found.join(", ")}`
    return `there is no tokenizer: expected tokenizer.json, tokenizer.model, or vocab.json with merges.txt; found ${found}`
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

/**
 * Text for which the vocabulary has neither a token nor an unknown token, or half a surrogate pair. Not raised by
 * byte-pair encoding, which leaves out characters it does not know, as Python does.
 */
export class Unencodable extends Schema.TaggedError<Unencodable>()("Unencodable", { text: Schema.String }) {
  override get message() {
    return `the vocabulary has no token for ${Json.shown(this.text)}, and no unknown token`
  }
}

/** The ids of config.json win over the token names of tokenizer_config.json. */
export const make = Effect.fn("Tokenizer.make")(function* (files: Files, model: ModelTokens) {
  const object = (role: keyof Files) => (files[role] === undefined ? Effect.succeed({}) : parse(role, files[role]))
  const beside: AddedTokens.Files = {
    config: yield* object("config"),
    specialTokens: yield* object("specialTokens"),
    addedTokens: yield* object("addedTokens"),
  }
  const found = yield* pipelineOf(files, beside)
  for (const [id, token] of found.tokens) {
    if (id >= model.vocab_size) return yield* new VocabularyMismatch({ token, id, vocabulary: model.vocab_size })
  }
  const named = (name: string) => found.idOf(AddedTokens.named(beside, name) ?? "")
  const eos = model.eos_token_id ?? named("eos_token")
  return {
    bos: model.bos_token_id ?? named("bos_token") ?? null,
    eos: eos === undefined ? [] : typeof eos === "number" ? [eos] : eos,
    prefix: found.prefix,
    special: AddedTokens.texts(beside),
    encode: checked(found.encode),
    encodePrompt: checked(found.encodePrompt),
    decode: found.decode,
  } satisfies Tokenizer as Tokenizer
})

/** Where prompts are encoded as any other text. */
const plain = (pipeline: Pipeline) => ({ ...pipeline, prefix: [], encodePrompt: pipeline.encode })

const pipelineOf = Effect.fnUntraced(function* (files: Files, beside: AddedTokens.Files) {
  const { merges, sentencePiece, tokenizer, vocabulary } = files
  if (tokenizer !== undefined) {
    return plain(yield* compile(yield* parse("tokenizer", tokenizer)).pipe(blame("tokenizer")))
  }
  if (sentencePiece !== undefined) return yield* fromSentencePiece(sentencePiece, beside)
  if (vocabulary !== undefined && merges !== undefined) return yield* fromMerges(vocabulary, merges, beside)
  const roles = (Object.keys(NAMES) as Array<keyof Files>).filter((role) => files[role] !== undefined)
  return yield* new NoTokenizer({ found: roles.map((role) => NAMES[role]) })
})

const fromSentencePiece = Effect.fnUntraced(function* (bytes: Uint8Array, beside: AddedTokens.Files) {
  const { config } = beside
  const model = yield* SentencePiece.read(bytes).pipe(blame("sentencePiece"))
  const named = config["tokenizer_class"]
  if (named === "ChatGLMTokenizer") return yield* ChatGlm.make(model).pipe(blame("sentencePiece"))
  const llama = named === "LlamaTokenizer" || named === "LlamaTokenizerFast"
  if (!llama && named !== undefined) {
    const known = "LlamaTokenizer, ChatGLMTokenizer, or no class"
    const reason = `its tokenizer_class is ${Json.shown(named)}; known with tokenizer.model are ${known}`
    return yield* new BadTokenizer({
      file: "tokenizer_config.json",
      reason: `${reason}; save tokenizer.json with the checkpoint`,
    })
  }
  const legacy = config["legacy"] !== false
  const addPrefixSpace = config["add_prefix_space"] !== false
  const json = SentencePiece.tokenizerJson(model, { legacy, addPrefixSpace, llama })
  const pieces = new Map(model.pieces.map(({ piece }, id) => [piece, id]))
  return plain(yield* compile(yield* withAdded(json, pieces, beside, false)).pipe(blame("sentencePiece")))
})

const fromMerges = Effect.fnUntraced(function* (vocabulary: Uint8Array, merges: Uint8Array, beside: AddedTokens.Files) {
  const vocab = yield* parse("vocabulary", vocabulary)
  const list = yield* VocabMerges.parseMerges(yield* text("merges", merges)).pipe(blame("merges"))
  const json = yield* VocabMerges.tokenizerJson(vocab, list, beside.config).pipe(blame("config"))
  // Ids are checked where the model is made; whatever is none matches no declared token.
  const ids = new Map(Object.entries(vocab).filter((entry): entry is [string, number] => typeof entry[1] === "number"))
  return plain(yield* compile(yield* withAdded(json, ids, beside, true)).pipe(blame("vocabulary")))
})

const withAdded = (...[json, vocabulary, files, normalizes]: Parameters<typeof AddedTokens.add>) =>
  AddedTokens.add(json, vocabulary, files, normalizes).pipe(
    Effect.mapError(({ file, reason }) => new BadTokenizer({ file, reason })),
  )

/** The file that a part of a tokenizer came from. */
const blame =
  (role: keyof Files) =>
  <A, R>(effect: Effect.Effect<A, Malformed, R>): Effect.Effect<A, BadTokenizer, R> =>
    Effect.mapError(effect, ({ reason }) => new BadTokenizer({ file: NAMES[role], reason }))

const text = (role: keyof Files, bytes: Uint8Array) =>
  Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
    catch: (cause) => new BadTokenizer({ file: NAMES[role], reason: (cause as Error).message }),
  })

const parse = Effect.fnUntraced(function* (role: keyof Files, bytes: Uint8Array) {
  const parsed = Json.parse(yield* text(role, bytes))
  if ("problem" in parsed) return yield* new BadTokenizer({ file: NAMES[role], reason: `it ${parsed.problem}` })
  if (Json.isRecord(parsed.value)) return parsed.value
  return yield* new BadTokenizer({ file: NAMES[role], reason: "it is no JSON object" })
})

const checked =
  (encode: Pipeline["encode"]) =>
  (text: string): Effect.Effect<Int32Array<ArrayBuffer>, Unencodable> =>
    Effect.suspend(() => {
      const ids = text.isWellFormed() ? encode(text) : { unknown: /\p{Surrogate}/u.exec(text)![0] }
      return "unknown" in ids
        ? Effect.fail(new Unencodable({ text: ids.unknown }))
        : Effect.succeed(Int32Array.from(ids))
    })
