/**
 * The tokenizer inside a GGUF file -> the objects of `tokenizer.json` and `tokenizer_config.json`. Two kinds are known:
 * `llama`, a SentencePiece vocabulary with scores, and `gpt2`, byte-level byte-pair encoding with a list of merges. For
 * the latter the file only names the rule that cuts text into words before merging (`tokenizer.ggml.pre`); the rules
 * themselves stand here, after llama.cpp (llama-vocab.cpp, llm_tokenizer_bpe) and the checkpoints they are from.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Gguf, Value } from "./Gguf.ts"
import * as Spm from "./SpmVocabulary.ts"
import { leading } from "./tokenizer/PostProcessor.ts"

/** The keys `tokenizer.ggml.*` of a file do not make a tokenizer. */
export class BadVocabulary extends Schema.TaggedError<BadVocabulary>()("BadVocabulary", {
  file: Schema.String,
  key: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file} has no usable tokenizer: ${this.key} ${this.reason}`
  }
}

type Json = { readonly [key: string]: unknown }
export interface Files {
  /** Of tokenizer.json. */
  readonly tokenizer: Json
  /** Of tokenizer_config.json: the special tokens by name, and the chat template. */
  readonly config: Json
}

/** @param file named in errors */
export const convert = Effect.fn("GgufTokenizer.convert")(function* (file: string, metadata: Gguf["metadata"]) {
  const vocabulary = yield* readVocabulary(file, metadata)
  const { model } = vocabulary
  const { leads, tokenizer } = yield* model === "llama" ? llama(vocabulary) : gpt2(vocabulary)
  const { special, tokens } = vocabulary
  const bos = (yield* readFlag(vocabulary, "add_bos_token", leads)) ? special["bos_token"] : undefined
  const post_processor = bos === undefined ? null : leading(tokens[bos]!, bos)
  return { tokenizer: { ...tokenizer, post_processor }, config: config(vocabulary) } satisfies Files as Files
})

/** By their numbers in the file, less one. */
const TYPES = ["normal", "unknown", "control", "userDefined", "unused", "byte"] as const
type Type = (typeof TYPES)[number]

/** Names in tokenizer_config.json of the ids in the file. */
const SPECIAL = {
  bos_token: "bos_token_id",
  eos_token: "eos_token_id",
  unk_token: "unknown_token_id",
  pad_token: "padding_token_id",
} as const
/** An id of -1, stored unsigned: there is no such token. */
const NONE = 2 ** 32 - 1

interface Vocabulary {
  readonly model: "llama" | "gpt2"
  readonly tokens: ReadonlyArray<string>
  readonly types: ReadonlyArray<Type>
  /** Ids by their names in tokenizer_config.json. */
  readonly special: { readonly [name: string]: number }
  readonly get: (key: string) => Value | undefined
  readonly bad: (key: string, reason: string) => BadVocabulary
}

const readVocabulary = Effect.fnUntraced(function* (file: string, metadata: Gguf["metadata"]) {
  const get = (key: string) => metadata.get(`tokenizer.ggml.${key}`) ?? metadata.get(`tokenizer.${key}`)
  const bad = (key: string, reason: string) => new BadVocabulary({ file, key: `tokenizer.ggml.${key}`, reason })
  const model = get("model")
  if (model !== "llama" && model !== "gpt2") return yield* bad("model", `is ${shown(model)}; known: "llama", "gpt2"`)
  const tokens = get("tokens")
  if (!isTexts(tokens) || tokens.length === 0)
    return yield* bad("tokens", `is ${shown(tokens)}; expected a list of texts`)
  if (tokens.includes("")) return yield* bad("tokens", `has no text for token ${tokens.indexOf("")}`)
  const twice = repeated(tokens)
  if (twice !== undefined) return yield* bad("tokens", `has ${shown(twice)} twice`)
  const special: { [name: string]: number } = {}
  for (const [name, key] of Object.entries(SPECIAL)) {
    const id = get(key)
    if (id === undefined || id === NONE) continue
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= tokens.length)
      return yield* bad(key, `is ${shown(id)}; expected an id below ${tokens.length}`)
    special[name] = id
  }
  const types = get("token_type")
  if (types !== undefined && !isNumbers(types, tokens.length))
    return yield* bad("token_type", `is ${shown(types)}; expected ${tokens.length} numbers`)
  if (types === undefined && model === "llama") return yield* bad("token_type", "is missing")
  const named = new Set(Object.values(special))
  const found: Array<Type> = []
  for (let id = 0; id < tokens.length; id++) {
    const type = types === undefined ? (named.has(id) ? "control" : "normal") : TYPES[types[id]! - 1]
    if (type === undefined) return yield* bad("token_type", `has ${types?.[id]} for token ${id}; known: 1 to 6`)
    found.push(type)
  }
  return { model, tokens, types: found, special, get, bad } satisfies Vocabulary as Vocabulary
})

/** In an error: cut short, because a file may hold any text. */
const shown = (value: unknown): string => {
  if (value === undefined) return "missing"
  if (typeof value === "object") return "a list"
  return typeof value === "string" ? JSON.stringify(value.slice(0, 100)) : String(value)
}

const isTexts = (value: Value | undefined): value is ReadonlyArray<string> =>
  Array.isArray(value) && value.every((text) => typeof text === "string")

const isNumbers = (value: Value, length: number): value is Float32Array =>
  typeof value === "object" &&
  value.length === length &&
  (ArrayBuffer.isView(value) || value.every((n) => typeof n === "number"))

const repeated = (texts: ReadonlyArray<string>): string | undefined => {
  const seen = new Set<string>()
  for (const text of texts) {
    if (seen.has(text)) return text
    seen.add(text)
  }
  return undefined
}

const readFlag = Effect.fnUntraced(function* ({ get, bad }: Vocabulary, key: string, absent: boolean) {
  const value = get(key) ?? absent
  return typeof value === "boolean" ? value : yield* bad(key, `is ${shown(value)}; expected true or false`)
})

const llama = Effect.fnUntraced(function* (vocabulary: Vocabulary) {
  const { bad, get, tokens, types } = vocabulary
  const scores = get("scores")
  if (scores === undefined || !isNumbers(scores, tokens.length) || !scores.every(Number.isFinite))
    return yield* bad("scores", `is ${shown(scores)}; expected ${tokens.length} finite numbers`)
  const bytes = types.filter((type) => type === "byte").length
  // Otherwise text could vanish: what has no piece, no bytes and no unknown token is dropped.
  if (bytes !== 0 && bytes !== 256) return yield* bad("token_type", `marks ${bytes} bytes; expected none or 256`)
  if (bytes === 0 && !types.includes("unknown"))
    return yield* bad("token_type", "marks neither bytes nor an unknown token")
  const tokenizer = Spm.tokenizerJson(
    tokens.map((piece, id) => ({ piece, score: scores[id]!, type: types[id]! })),
    {
      model: "bpe",
      byteFallback: bytes > 0,
      addDummyPrefix: yield* readFlag(vocabulary, "add_space_prefix", true),
      removeExtraWhitespaces: yield* readFlag(vocabulary, "remove_extra_whitespaces", false),
      normalizers: [],
    },
  )
  return { tokenizer, leads: true }
})

const gpt2 = Effect.fnUntraced(function* (vocabulary: Vocabulary) {
  const { bad, get, special, tokens, types } = vocabulary
  const pre = get("pre")
  const rule = typeof pre === "string" && Object.hasOwn(RULES, pre) ? RULES[pre] : undefined
  if (rule === undefined) return yield* bad("pre", `is ${shown(pre)}; known: ${Object.keys(RULES).join(", ")}`)
  if (yield* readFlag(vocabulary, "add_space_prefix", false))
    return yield* bad("add_space_prefix", "is true, which no byte-level vocabulary known here has")
  const ids = new Map(tokens.map((token, id) => [token, id]))
  const missing = special["unk_token"] === undefined ? BYTES.find((byte) => !ids.has(byte)) : undefined
  if (missing !== undefined)
    return yield* bad("tokens", `lacks the byte ${shown(missing)}, and there is no unknown token`)
  const listed = get("merges")
  if (!isTexts(listed)) return yield* bad("merges", `is ${shown(listed)}; expected a list of texts`)
  const merges: Array<readonly [string, string]> = []
  for (const merge of listed) {
    const space = merge.indexOf(" ", 1)
    const [left, right] = [merge.slice(0, space), merge.slice(space + 1)]
    if (space === -1 || !ids.has(left) || !ids.has(right) || !ids.has(left + right))
      return yield* bad("merges", `has ${shown(merge)}; expected two tokens whose union is one`)
    merges.push([left, right])
  }
  const unknown = special["unk_token"]
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: tokens.flatMap((content, id) => {
      const type = types[id]!
      const added = type === "control" || type === "unknown" || type === "userDefined"
      const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false }
      return added ? [{ id, content, ...flags, special: type !== "userDefined" }] : []
    }),
    normalizer: rule.nfc ? { type: "NFC" } : null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        ...rule.split.map((Regex) => ({ type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false })),
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: unknown === undefined ? null : tokens[unknown],
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: rule.whole,
      vocab: Object.fromEntries(ids),
      merges,
    },
  }
  return { tokenizer, leads: rule.leads }
})

const config = ({ get, special, tokens }: Vocabulary): Json => {
  const template = get("chat_template")
  return {
    ...Object.fromEntries(Object.entries(special).map(([name, id]) => [name, tokens[id]])),
    ...(typeof template === "string" ? { chat_template: template } : {}),
    clean_up_tokenization_spaces: false,
  }
}

/**
 * The characters that stand for the bytes of text, without which it would be dropped in silence: printable ones of
 * Latin 1 stand for themselves, others are counted from U+0100 on. Control codes, which Falcon lacks, may be missing,
 * and bytes that no assigned character has in UTF-8.
 */
const BYTES: ReadonlyArray<string> = (() => {
  const printable = (byte: number) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad)
  const dispensable = (byte: number) =>
    (byte < 0x20 && byte !== 9 && byte !== 10 && byte !== 13) || [0x7f, 0xc0, 0xc1, 0xf2].includes(byte) || byte > 0xf4
  let others = 0
  const characters = Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(printable(byte) ? byte : 256 + others++),
  )
  return characters.filter((_, byte) => !dispensable(byte))
})()

interface Rule {
  /** Regular expressions, applied one after another: each cuts out what it matches. */
  readonly split: ReadonlyArray<string>
  /** Text is composed first, as by the tokenizer.json of those models. */
  readonly nfc: boolean
  /** A word that is a token is not merged from its parts. */
  readonly whole: boolean
  /** A text begins with BOS where the file does not say whether it does. */
  readonly leads: boolean
}

const WORDS = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/** With numbers of so many digits. */
const wordsOf = (number: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${number}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`
/** Letters with case; escaped, because composing the text of this file would change some of them. */
const CASED =
  "A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-\u0373\u0376\u0377" +
  "\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556" +
  "\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15" +
  "\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE" +
  "\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113" +
  "\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184" +
  "\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E" +
  "\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\u{10400}-\u{1044F}\u{104B0}-\u{104D3}" +
  "\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}"

const plain = { nfc: false, whole: false, leads: false }
/** By `tokenizer.ggml.pre`. */
const RULES: { readonly [pre: string]: Rule } = {
  default: { ...plain, split: ["[\\p{P}\\$\\+<=>\\^~\\|]+", WORDS, "\\p{N}+", "[0-9][0-9][0-9]"] },
  "gpt-2": { ...plain, split: [WORDS] },
  "phi-2": { ...plain, split: [WORDS] },
  mpt: { ...plain, split: [WORDS], nfc: true },
  olmo: { ...plain, split: [WORDS], nfc: true },
  starcoder: { ...plain, split: ["\\p{N}", WORDS] },
  smollm: { ...plain, split: ["\\p{N}", WORDS] },
  falcon: { ...plain, split: ["[\\p{P}\\$\\+<=>\\^~\\|`]+", WORDS, "[0-9][0-9][0-9]"] },
  qwen2: { ...plain, split: [wordsOf("\\p{N}")], nfc: true },
  stablelm2: { ...plain, split: [wordsOf("\\p{N}")] },
  "llama-bpe": { ...plain, split: [wordsOf("\\p{N}{1,3}")], whole: true, leads: true },
  bloom: { ...plain, split: [" ?[^(\\s|.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C)]+"] },
  "deepseek-llm": {
    ...plain,
    split: [
      "[\\r\\n]",
      `\\s?[${CASED}]+`,
      "\\s?[!-\\/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+",
      "\\s+$",
      "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+",
      "\\p{N}+",
    ],
  },
}
