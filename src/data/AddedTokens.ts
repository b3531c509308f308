/**
 * Tokens that a checkpoint adds to the vocabulary of its tokenizer.model or vocab.json, out of the files beside it:
 * added_tokens_decoder and the special tokens by name in tokenizer_config.json, special_tokens_map.json, and
 * added_tokens.json. Ids are those of the files, of the vocabulary, or, as in transformers, the next that are free.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Json from "./Json.ts"

type Object = { readonly [key: string]: unknown }
export interface Files {
  readonly config: Object
  readonly specialTokens: Object
  readonly addedTokens: Object
}

/** A file contradicts itself or another. */
export class Contradiction extends Schema.TaggedError<Contradiction>()("Contradiction", {
  file: Schema.Literals(["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]),
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file}: ${this.reason}`
  }
}

/** In the order in which transformers gives them ids. */
export const NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]

/** A special token is written as its text, or as an object that holds the text. */
const contentOf = (token: unknown): string | undefined => {
  const content = Json.isRecord(token) ? token["content"] : token
  return typeof content === "string" && content !== "" ? content : undefined
}

/** The text of `bos_token` and the like. Where there is no added_tokens_decoder, special_tokens_map.json has the word. */
export const named = ({ config, specialTokens }: Pick<Files, "config" | "specialTokens">, name: string) => {
  const own = contentOf(config[name])
  const map = contentOf(specialTokens[name])
  return "added_tokens_decoder" in config ? (own ?? map) : (map ?? own)
}

/** The special tokens that the files name, by their names there: what a chat template is given. */
export const texts = (files: Pick<Files, "config" | "specialTokens">): { readonly [name: string]: string } =>
  Object.fromEntries(
    NAMES.flatMap((name) => {
      const text = named(files, name)
      return text === undefined ? [] : [[name, text]]
    }),
  )

interface Flags {
  readonly single_word: boolean
  readonly lstrip: boolean
  readonly rstrip: boolean
  readonly normalized: boolean
  readonly special: boolean
}
interface Declared extends Flags {
  readonly content: string
  /** Absent where the files leave it to the vocabulary. */
  readonly id: number | undefined
  readonly file: Contradiction["file"]
}

const flag = (token: unknown, name: keyof Flags): boolean => Json.isRecord(token) && token[name] === true
const declare = (
  file: Contradiction["file"],
  content: string,
  id: number | undefined,
  token: unknown,
  special: boolean,
): Declared => ({
  file,
  content,
  id,
  special,
  normalized: flag(token, "normalized"),
  single_word: flag(token, "single_word"),
  lstrip: flag(token, "lstrip"),
  rstrip: flag(token, "rstrip"),
})

const isId = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) >= 0

const declared = Effect.fnUntraced(function* (files: Files) {
  const { addedTokens, config, specialTokens } = files
  const special = new Map<string, Declared>()
  const additional = (file: "tokenizer_config.json" | "special_tokens_map.json", of: Object) => {
    const list = of["additional_special_tokens"] ?? of["extra_special_tokens"]
    return Array.isArray(list) ? list.map((token) => [file, token] as const) : []
  }
  const tokens = [
    ...NAMES.map((name) => {
      const content = named(files, name)
      const own = contentOf(config[name]) === content
      return own
        ? (["tokenizer_config.json", config[name]] as const)
        : (["special_tokens_map.json", specialTokens[name]] as const)
    }),
    ...additional("tokenizer_config.json", config),
    ...additional("special_tokens_map.json", specialTokens),
  ]
  for (const [file, token] of tokens) {
    const content = contentOf(token)
    if (content !== undefined && !special.has(content)) {
      special.set(content, declare(file, content, undefined, token, true))
    }
  }
  const numbered: Array<Declared> = []
  const decoder = config["added_tokens_decoder"] ?? {}
  if (!Json.isRecord(decoder)) {
    return yield* new Contradiction({ file: "tokenizer_config.json", reason: "added_tokens_decoder is no object" })
  }
  for (const [id, token] of Object.entries(decoder)) {
    const content = contentOf(token)
    if (content === undefined || !/^\d+$/.test(id) || !isId(Number(id))) {
      const reason = `added_tokens_decoder[${Json.shown(id)}] is ${Json.shown(token)}; expected an id and a token`
      return yield* new Contradiction({ file: "tokenizer_config.json", reason })
    }
    const isSpecial = flag(token, "special") || special.has(content)
    numbered.push(declare("tokenizer_config.json", content, Number(id), token, isSpecial))
  }
  for (const [content, id] of Object.entries(addedTokens)) {
    if (content === "" || !isId(id)) {
      const reason = `the id of ${Json.shown(content)} is ${Json.shown(id)}; expected a whole number`
      return yield* new Contradiction({ file: "added_tokens.json", reason })
    }
    numbered.push(declare("added_tokens.json", content, id, special.get(content), special.has(content)))
  }
  numbered.sort((a, b) => a.id! - b.id!)
  return [...numbered, ...special.values()]
})

/**
 * The object of a `tokenizer.json` with the tokens of the files added to its own.
 *
 * @param vocabulary of the model, without added tokens
 * @param normalizes whether added tokens may be looked for in normalized text; tokenizers of SentencePiece never do
 */
export const add = Effect.fnUntraced(function* (
  json: Object,
  vocabulary: ReadonlyMap<string, number>,
  files: Files,
  normalizes: boolean,
) {
  const own = json["added_tokens"] as ReadonlyArray<{ readonly content: string; readonly id: number }>
  const byContent = new Map<string, { readonly content: string; readonly id: number }>(
    own.map((token) => [token.content, token]),
  )
  const byId = new Map<number, string>()
  let most = -1
  for (const [content, id] of [...vocabulary, ...own.map(({ content, id }) => [content, id] as const)]) {
    byId.set(id, content)
    most = Math.max(most, id)
  }
  const given = new Set<string>()
  for (const { file, ...token } of yield* declared(files)) {
    const { content } = token
    const known = byContent.get(content)?.id ?? vocabulary.get(content)
    const id = token.id ?? known ?? most + 1
    if (known !== undefined && known !== id) {
      const reason = `the id of ${Json.shown(content)} is ${id}, in the vocabulary or another file it is ${known}`
      return yield* new Contradiction({ file, reason })
    }
    const other = byId.get(id)
    if (other !== undefined && other !== content) {
      const reason = `the id of ${Json.shown(content)} is ${id}, which is that of ${Json.shown(other)}`
      return yield* new Contradiction({ file, reason })
    }
    byId.set(id, content)
    most = Math.max(most, id)
    // The first file that says how a token is looked for decides.
    if (given.has(content)) continue
    given.add(content)
    byContent.set(content, { ...token, id, normalized: normalizes && token.normalized } as never)
  }
  return { ...json, added_tokens: [...byContent.values()].toSorted((a, b) => a.id - b.id) }
})
