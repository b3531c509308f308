/**
 * Text to token ids and back, by what a checkpoint holds: `tokenizer.json`; or a SentencePiece model, `tokenizer.model`;
 * or `vocab.json` with `merges.txt`. `encode` adds no special token: what a text begins with is known apart from it. Text
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
  /** What it puts before a text in transformers: BOS for Llama, `[gMASK]` and `sop` for ChatGLM, nothing for GPT-2. */
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

/**
 * What ends a text config.json knows better than tokenizer_config.json, what begins it the tokenizer: config.json may have
 * the number of a class's default.
 */
export const make = Effect.fn("Tokenizer.make")(function* (files: Files, model: ModelTokens) {
  const object = (role: keyof Files) => (files[role] === undefined ? Effect.succeed({}) : parse(role, files[role]))
  const beside: AddedTokens.Files = {
    config: yield* object("config"),
    specialTokens: yield* object("specialTokens"),
    addedTokens: yield* object("addedTokens"),
  }
  const found = yield* pipelineOf(files, beside)
  for (const [id, token] of found.tokens) {
    // Some files add tokens that their model has no row for: an error where a text spells one.
    if (id >= model.vocab_size && !found.added.has(id))
      return yield* new VocabularyMismatch({ token, id, vocabulary: model.vocab_size })
  }
  const named = (name: string) => found.idOf(AddedTokens.named(beside, name) ?? "")
  const eos = model.eos_token_id ?? named("eos_token")
  return {
    bos: named("bos_token") ?? model.bos_token_id ?? null,
    eos: [...(eos === undefined ? [] : typeof eos === "number" ? [eos] : eos), ...found.ends],
    prefix: found.prefix,
    special: AddedTokens.texts(beside),
    encode: checked(found.encode),
    encodePrompt: checked(found.encodePrompt),
    decode: found.decode,
  } satisfies Tokenizer as Tokenizer
})

/** Where prompts are encoded as any other text. */
const plain = (pipeline: Pipeline) => ({ ...pipeline, ends: [], encodePrompt: pipeline.encode })

/** With BOS before a text if `add_bos_token` says so, or where it is silent, if the class does. */
const leading = (pipeline: Pipeline, { config, ...files }: AddedTokens.Files, otherwise: boolean): Pipeline => {
  const adds = config["add_bos_token"] ?? otherwise
  const bos = pipeline.idOf(AddedTokens.named({ config, ...files }, "bos_token") ?? "<s>")
  return { ...pipeline, prefix: adds === true && bos !== undefined ? [bos] : [] }
}

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
  const named = config["tokenizer_class"]
  const chatGlm = named === "ChatGLMTokenizer"
  const llama = named === "LlamaTokenizer" || named === "LlamaTokenizerFast"
  if (!chatGlm && !llama && named !== undefined) {
    const known = "LlamaTokenizer, ChatGLMTokenizer, or no class"
    const reason = `its tokenizer_class is ${Json.shown(named)}; known with tokenizer.model are ${known}`
    return yield* new BadTokenizer({
      file: "tokenizer_config.json",
      reason: `${reason}; save tokenizer.json with the checkpoint`,
    })
  }
  const model = yield* SentencePiece.read(bytes).pipe(blame("sentencePiece"))
  if (chatGlm) return yield* ChatGlm.make(model).pipe(blame("sentencePiece"))
  const legacy = config["legacy"] !== false
  const addPrefixSpace = config["add_prefix_space"] !== false
  const json = SentencePiece.tokenizerJson(model, { legacy, addPrefixSpace, llama })
  const pieces = new Map(model.pieces.map(({ piece }, id) => [piece, id]))
  const pipeline = yield* compile(yield* withAdded(json, pieces, beside, false)).pipe(blame("sentencePiece"))
  return plain(leading(pipeline, beside, true))
})

const fromMerges = Effect.fnUntraced(function* (vocabulary: Uint8Array, merges: Uint8Array, beside: AddedTokens.Files) {
  const vocab = yield* parse("vocabulary", vocabulary)
  const list = yield* VocabMerges.parseMerges(yield* text("merges", merges)).pipe(blame("merges"))
  const json = yield* VocabMerges.tokenizerJson(vocab, list, beside.config).pipe(blame("config"))
  // Ids are checked where the model is made; whatever is none matches no declared token.
  const ids = new Map(Object.entries(vocab).filter((entry): entry is [string, number] => typeof entry[1] === "number"))
  const pipeline = yield* compile(yield* withAdded(json, ids, beside, true)).pipe(blame("vocabulary"))
  return plain(leading(pipeline, beside, false))
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
