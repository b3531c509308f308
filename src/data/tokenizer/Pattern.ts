/**
 * Patterns of a `tokenizer.json`. Python's tokenizers run Oniguruma with the tables of Unicode 16; expressions are
 * rewritten for JavaScript by @huggingface/tokenizers, and characters that Unicode assigned since count as unassigned,
 * whatever the tables of this Node.
 */
import * as Library from "@huggingface/tokenizers"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { runInNewContext } from "node:vm"
import { Malformed } from "./Component.ts"

export const Pattern = Schema.Union([
  Schema.Struct({ String: Schema.NonEmptyString }),
  Schema.Struct({ Regex: Schema.NonEmptyString }),
])

/** Where a text matches: [start, end) in UTF-16 units, in order, without overlap. */
export type Find = (text: string) => ReadonlyArray<readonly [start: number, end: number]>

export const find = (pattern: typeof Pattern.Type): Effect.Effect<Find, Malformed> => {
  if ("String" in pattern) return Effect.succeed(literal(pattern.String))
  const bad = (reason: string) =>
    new Malformed({ reason: `the pattern ${pattern.Regex.slice(0, 200)}: ${reason.slice(-200)}` })
  return Effect.try({
    try: () => rewritten(pattern.Regex),
    catch: (cause) => bad((cause as Error).message),
  }).pipe(
    Effect.flatMap((expression) =>
      runsAway(expression)
        ? Effect.fail(bad("it takes time without end on texts of one letter repeated"))
        : Effect.succeed(regex(expression)),
    ),
  )
}

/** Milliseconds; what patterns of published tokenizers take is not to be measured. */
const PATIENCE = 1000

/**
 * JavaScript goes back over a text as often as an expression asks for it: exponentially, if the expression is bad. Tried on
 * one letter after another, repeated, with an end that does not fit.
 */
const runsAway = (expression: RegExp): boolean => {
  const letters = [...new Set([..."aA1 \n!_\u00e9\u4e2d", ...expression.source])].slice(0, 100)
  const texts = letters.flatMap((letter) => [30, 1000].map((times) => `${letter.repeat(times)}\u0001`))
  try {
    runInNewContext(
      "for (const text of texts) text.replace(expression, '')",
      { expression, texts },
      { timeout: PATIENCE },
    )
    return false
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ERR_SCRIPT_EXECUTION_TIMEOUT") return true
    throw cause
  }
}

/** The package's types leave out what its index exports from folders. */
const { SplitPreTokenizer } = Library as unknown as {
  readonly SplitPreTokenizer: new (config: object) => { readonly pattern: RegExp }
}
const rewritten = (source: string): RegExp =>
  new SplitPreTokenizer({ type: "Split", pattern: { Regex: source }, behavior: "Isolated", invert: false }).pattern

const literal =
  (wanted: string): Find =>
  (text) => {
    const found: Array<readonly [number, number]> = []
    for (let at = text.indexOf(wanted); at !== -1; at = text.indexOf(wanted, at + wanted.length)) {
      found.push([at, at + wanted.length])
    }
    return found
  }

/** @param expression with the flags g and u */
export const regex =
  (expression: RegExp): Find =>
  (text) =>
    [...settled(text).matchAll(expression)].map(({ 0: match, index }) => [index, index + match.length])

/** The text with every match replaced; the replacement is taken as it stands. */
export const replaced = (find: Find, text: string, by: string): string => {
  let out = ""
  let end = 0
  for (const [start, stop] of find(text)) {
    out += text.slice(end, start) + by
    end = stop
  }
  return out + text.slice(end)
}

/** Letters, marks, numbers, signs of Unicode 17. */
const NEWER =
  /[\u088f\u0c5c\u0cdc\u1acf-\u1add\u1ae0-\u1aeb\u20c1\u2b96\ua7ce\ua7cf\ua7d2\ua7d4\ua7f1\ufbc3-\ufbd2\ufd90\ufd91\ufdc8-\ufdce\u{10940}-\u{10959}\u{10ec5}-\u{10ec7}\u{10ed0}-\u{10ed8}\u{10efa}\u{10efb}\u{11b60}-\u{11b67}\u{11db0}-\u{11ddb}\u{11de0}-\u{11de9}\u{16ea0}-\u{16eb8}\u{16ebb}-\u{16ed3}\u{16ff2}-\u{16ff6}\u{187f8}-\u{187ff}\u{18d09}-\u{18d1e}\u{18d80}-\u{18df2}\u{1ccfa}-\u{1ccfc}\u{1ceba}-\u{1ced0}\u{1cee0}-\u{1cef0}\u{1e6c0}-\u{1e6de}\u{1e6e0}-\u{1e6f5}\u{1e6fe}\u{1e6ff}\u{1f6d8}\u{1f777}-\u{1f77a}\u{1f8d0}-\u{1f8d8}\u{1fa54}-\u{1fa57}\u{1fa8a}\u{1fa8e}\u{1fac8}\u{1facd}\u{1faea}\u{1faef}\u{1fbfa}\u{2b73a}-\u{2b73f}\u{2cea2}-\u{2cead}\u{323b0}-\u{33479}]/gu

/** The same text with stand-ins of the same length that no version of Unicode assigns. */
const settled = (text: string): string =>
  text.replace(NEWER, (character) => (character.length === 1 ? "\ufdd0" : "\u{1fffe}"))
