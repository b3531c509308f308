/**
 * The object of a `tokenizer.json` as two functions, text to ids and back: added tokens are cut out of the text, the
 * rest is normalized, added tokens are cut out once more, what remains is cut into words, and the model finds the
 * tokens of each. A port of Hugging Face tokenizers (Rust) 0.23, to whose ids it is held; no special token is added.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { shown } from "../Json.ts"
import { Malformed, or } from "./Component.ts"
import { decoder } from "./Decoder.ts"
import { model, type Model } from "./Model.ts"
import { normalizer, type Normalizer } from "./Normalizer.ts"
import { postProcessor } from "./PostProcessor.ts"
import { preTokenizer } from "./PreTokenizer.ts"

export interface Pipeline {
  /** The ids, or the text for which there is neither a token nor an unknown token. */
  readonly encode: (text: string) => ReadonlyArray<number> | { readonly unknown: string }
  /** Special tokens are spelled out; an id without a token is nothing. */
  readonly decode: (ids: ArrayLike<number>) => string
  readonly idOf: (token: string) => number | undefined
  readonly tokens: ReadonlyMap<number, string>
  /** Ids of added tokens: they come of text that spells them, not of other text. */
  readonly added: ReadonlySet<number>
  /** What the tokenizer puts before a text when it is asked for its special tokens. */
  readonly prefix: ReadonlyArray<number>
}

const AddedToken = Schema.Struct({
  id: Schema.Int,
  content: Schema.String,
  single_word: or(Schema.Boolean),
  lstrip: or(Schema.Boolean),
  rstrip: or(Schema.Boolean),
  normalized: or(Schema.Boolean),
  special: or(Schema.Boolean),
})
type AddedToken = typeof AddedToken.Type

/** What a text falls into: ids of added tokens, and pieces between them; `first` where a piece begins the text. */
type Section = number | { readonly text: string; readonly first: boolean }
type Cut = (text: string, first: boolean) => ReadonlyArray<Section>

/** Letters, digits and what continues a word, at the end and at the start of a text. */
const WORD_ENDS = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u
const WORD_STARTS = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u
const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")

/** Leftmost and of those the longest; a token may swallow the white space beside it or demand to stand alone. */
const cutter = (tokens: ReadonlyArray<readonly [content: string, token: AddedToken]>): Cut => {
  const byContent = new Map(tokens.filter(([content]) => content !== ""))
  if (byContent.size === 0) return (text, first) => (text === "" ? [] : [{ text, first }])
  const longestFirst = [...byContent.keys()].toSorted((a, b) => b.length - a.length)
  const expression = new RegExp(longestFirst.map(escaped).join("|"), "gu")
  // Compiled at its first use, which may fail.
  expression.test("")
  return (text, first) => {
    const sections: Array<Section> = []
    let end = 0
    const between = (start: number, stop: number) => {
      if (start < stop) sections.push({ text: text.slice(start, stop), first: first && start === 0 })
    }
    for (const { 0: match, index } of text.matchAll(expression)) {
      const token = byContent.get(match)!
      const before = text.slice(0, index)
      const after = text.slice(index + match.length)
      if (token.single_word === true && (WORD_ENDS.test(before) || WORD_STARTS.test(after))) continue
      const start = token.lstrip === true ? before.replace(/\p{White_Space}+$/u, "").length : index
      between(end, Math.max(start, end))
      sections.push(token.id)
      const stripped = token.rstrip === true ? after.replace(/^\p{White_Space}+/u, "") : after
      end = text.length - stripped.length
    }
    between(end, text.length)
    return sections
  }
}

const addedTokens = Effect.fnUntraced(function* (list: unknown, model: Model) {
  const tokens = yield* Schema.decodeUnknownEffect(Schema.Array(AddedToken))(list ?? []).pipe(
    Effect.mapError(({ message }) => new Malformed({ reason: `added_tokens: ${message}` })),
  )
  for (const { content, id } of tokens) {
    const own = model.ids.get(content) ?? id
    if (own !== id || id < 0) {
      const reason = `the added token ${shown(content)} has the id ${id}; expected ${Math.max(own, 0)}`
      return yield* new Malformed({ reason })
    }
  }
  return tokens
})

export const compile = Effect.fnUntraced(function* (json: { readonly [key: string]: unknown }) {
  const found = yield* model(json["model"])
  const added = yield* addedTokens(json["added_tokens"], found)
  const part = <A>(key: string, make: (config: unknown) => Effect.Effect<A, Malformed>) =>
    json[key] === null || json[key] === undefined ? Effect.succeed(undefined) : make(json[key])
  const normalize = (yield* part("normalizer", normalizer)) ?? ((text: string) => text)
  const words = yield* part("pre_tokenizer", preTokenizer)
  const decode = yield* part("decoder", decoder)
  const prefix = (yield* part("post_processor", postProcessor)) ?? []

  const [raw, normalized] = yield* Effect.try({
    try: () =>
      [
        cutter(added.filter((token) => !isNormalized(token)).map((token) => [token.content, token])),
        cutter(added.filter(isNormalized).map((token) => [normalize(token.content), token])),
      ] as const,
    // An expression of all of them; JavaScript has a limit for it.
    catch: () => new Malformed({ reason: `its ${added.length} added tokens are too long to be looked for in text` }),
  })
  const tokens = new Map<number, string>()
  for (const [token, id] of found.ids) tokens.set(id, token)
  // Python spells an added token as it looks for it.
  for (const token of added) tokens.set(token.id, isNormalized(token) ? normalize(token.content) : token.content)
  const addedIds = new Map(added.map(({ content, id }) => [content, id]))

  return {
    encode: (text) => {
      const ids: Array<number> = []
      for (const section of sections(text, raw, normalize, normalized)) {
        if (typeof section === "number") {
          ids.push(section)
          continue
        }
        for (const { text: word } of words?.([section]) ?? [section]) {
          const unknown = word === "" ? undefined : found.encode(word, ids)
          if (unknown !== undefined) return { unknown }
        }
      }
      return ids
    },
    decode: (ids) => {
      const known = Array.from(ids, (id) => tokens.get(id)).filter((token) => token !== undefined)
      return decode === undefined ? known.join(" ") : decode(known).join("")
    },
    idOf: (token) => addedIds.get(token) ?? found.ids.get(token),
    tokens,
    added: new Set(addedIds.values()),
    prefix,
  } satisfies Pipeline as Pipeline
})

/** Whether a token is looked for in normalized text; by default all but special ones are. */
const isNormalized = ({ normalized, special }: AddedToken): boolean => normalized ?? !(special ?? false)

const sections = (text: string, raw: Cut, normalize: Normalizer, normalized: Cut): ReadonlyArray<Section> =>
  raw(text, true).flatMap((section) =>
    typeof section === "number" ? [section] : normalized(normalize(section.text), section.first),
  )
