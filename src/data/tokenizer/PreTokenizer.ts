/**
 * Cuts normalized text into words, within which a model finds tokens. Ported from Hugging Face tokenizers (Rust), since
 * @huggingface/tokenizers 0.2.0 cuts otherwise: its digits are ASCII only, its punctuation and white space those of
 * JavaScript, `Split` knows two of five behaviours, and `Metaspace` never cuts.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Build, choose, Malformed, or, part } from "./Component.ts"
import { type Find, find, Pattern, regex } from "./Pattern.ts"

/** A piece of a text; `first` where it begins the text. */
export interface Word {
  readonly text: string
  readonly first: boolean
}
export type PreTokenizer = (words: ReadonlyArray<Word>) => ReadonlyArray<Word>

const Behavior = Schema.Literals(["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"])
type Behavior = typeof Behavior.Type

/** Alternating matches and what lies between them, then put together as the behaviour asks; empty pieces vanish. */
const split =
  (find: Find, behavior: Behavior, invert = false): PreTokenizer =>
  (words) =>
    words.flatMap(({ first, text }) => {
      const spans: Array<{ readonly start: number; end: number; readonly match: boolean }> = []
      const cut = (start: number, end: number, match: boolean) => {
        if (start < end) spans.push({ start, end, match: match !== invert })
      }
      let end = 0
      for (const [start, stop] of find(text)) {
        cut(end, start, false)
        cut(start, stop, true)
        end = stop
      }
      cut(end, text.length, false)
      return joined(spans, behavior).map(({ start, end }) => ({
        text: text.slice(start, end),
        first: first && start === 0,
      }))
    })

interface Span {
  readonly start: number
  readonly end: number
  readonly match: boolean
}
const joined = (spans: ReadonlyArray<Span>, behavior: Behavior): ReadonlyArray<Span> => {
  if (behavior === "Isolated") return spans
  if (behavior === "Removed") return spans.filter(({ match }) => !match)
  const out: Array<Span> = []
  let before: Span | undefined
  for (const span of spans) {
    const joins =
      before !== undefined &&
      (behavior === "Contiguous"
        ? before.match === span.match
        : behavior === "MergedWithPrevious"
          ? span.match && !before.match
          : before.match && !span.match)
    if (joins) out[out.length - 1] = { ...out.at(-1)!, end: span.end }
    else out.push(span)
    before = span
  }
  return out
}

/** The pattern of GPT-2, over Unicode's white space rather than JavaScript's. */
const GPT2 = regex(
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu,
)

/** The printable character that stands for each byte, as in GPT-2. */
export const BYTES: ReadonlyArray<string> = (() => {
  const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++))
})()

const utf8 = new TextEncoder()
const asBytes = (text: string): string => {
  let out = ""
  for (const byte of utf8.encode(text)) out += BYTES[byte]!
  return out
}

/**
 * Punctuation as the tables of tokenizers have it, which are older than Node's: ASCII's, Unicode's less what was
 * assigned since, and two characters that are no longer punctuation.
 */
const PUNCTUATION =
  /(?![\u061d\u09fd\u0a76\u0c77\u0c84\u1b4e\u1b4f\u1b7d-\u1b7f\u2e43-\u2e5d\u{10d6e}\u{10ead}\u{10ed0}\u{10f55}-\u{10f59}\u{10f86}-\u{10f89}\u{113d4}-\u{113d8}\u{1144b}-\u{1145d}\u{11660}-\u{1166c}\u{116b9}\u{1183b}\u{11944}-\u{11946}\u{119e2}\u{11a3f}-\u{11a46}\u{11a9a}-\u{11aa2}\u{11b00}-\u{11b09}\u{11be1}\u{11c41}-\u{11c45}\u{11c70}\u{11c71}\u{11ef7}\u{11ef8}\u{11f43}-\u{11f4f}\u{11fff}\u{12ff1}\u{12ff2}\u{16d6d}-\u{16d6f}\u{16e97}-\u{16e9a}\u{16fe2}\u{1e5ff}\u{1e95e}\u{1e95f}])[\p{P}!-/:-@[-`{-~]|\u166d|\u{111c9}/gu
const characters =
  (expression: RegExp): Find =>
  (text) =>
    [...text.matchAll(expression)].map(({ 0: match, index }) => [index, index + match.length])
const punctuation = characters(PUNCTUATION)
/** Digits, and whatever else has a numeric value. */
const numeric = characters(/\p{N}/gu)
const space = characters(/\p{White_Space}/gu)

const metaspace =
  (replacement: string, scheme: "always" | "first" | "never", cut: boolean): PreTokenizer =>
  (words) => {
    const spaced = words.map(({ first, text }) => {
      const marked = text.replaceAll(" ", () => replacement)
      const prefixed = !marked.startsWith(replacement) && (scheme === "always" || (scheme === "first" && first))
      return { text: prefixed ? replacement + marked : marked, first }
    })
    if (!cut) return spaced
    const at: Find = (text) => {
      const found: Array<readonly [number, number]> = []
      for (let i = text.indexOf(replacement); i !== -1; i = text.indexOf(replacement, i + replacement.length)) {
        found.push([i, i + replacement.length])
      }
      return found
    }
    return split(at, "MergedWithNext")(spaced)
  }

const parts: { readonly [type: string]: Build<PreTokenizer> } = {
  Sequence: part(Schema.Struct({ pretokenizers: Schema.Array(Schema.Unknown) }), ({ pretokenizers }) =>
    Effect.map(Effect.forEach(pretokenizers, preTokenizer), (all): PreTokenizer => {
      return (words) => all.reduce((words, next) => next(words), words)
    }),
  ),
  ByteLevel: part(
    Schema.Struct({ add_prefix_space: Schema.Boolean, use_regex: or(Schema.Boolean) }),
    ({ add_prefix_space, use_regex }): PreTokenizer => {
      const cut = split(GPT2, "Isolated")
      return (words) => {
        const prefixed = add_prefix_space
          ? words.map(({ first, text }) => ({ first, text: text.startsWith(" ") ? text : ` ${text}` }))
          : words
        const all = (use_regex ?? true) ? cut(prefixed) : prefixed
        return all.map(({ first, text }) => ({ first, text: asBytes(text) }))
      }
    },
  ),
  Split: part(
    Schema.Struct({ pattern: Pattern, behavior: Behavior, invert: Schema.Boolean }),
    ({ behavior, invert, pattern }) => Effect.map(find(pattern), (find) => split(find, behavior, invert)),
  ),
  Punctuation: part(Schema.Struct({ behavior: or(Behavior) }), ({ behavior }) =>
    split(punctuation, behavior ?? "Isolated"),
  ),
  Digits: part(Schema.Struct({ individual_digits: Schema.Boolean }), ({ individual_digits }) =>
    split(numeric, individual_digits ? "Isolated" : "Contiguous"),
  ),
  WhitespaceSplit: part(Schema.Struct({}), () => split(space, "Removed")),
  Metaspace: part(
    Schema.Struct({
      replacement: Schema.NonEmptyString,
      add_prefix_space: or(Schema.Boolean),
      prepend_scheme: or(Schema.Literals(["always", "first", "never"])),
      split: or(Schema.Boolean),
    }),
    ({ add_prefix_space: prefix, prepend_scheme: scheme, replacement, split }) => {
      if (prefix === false && scheme !== undefined && scheme !== null && scheme !== "never") {
        return Effect.fail(
          new Malformed({ reason: `Metaspace: add_prefix_space is false and prepend_scheme is "${scheme}"` }),
        )
      }
      return metaspace(replacement, scheme ?? (prefix === false ? "never" : "always"), split ?? true)
    },
  ),
}

export const preTokenizer: (config: unknown) => Effect.Effect<PreTokenizer, Malformed> = choose(
  "pre_tokenizer",
  () => parts,
)
