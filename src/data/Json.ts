/**
 * JSON of a file that may not be what it claims: unlike `JSON.parse` alone, a name given twice is an error, and so is
 * nesting so deep that nothing could walk through it.
 */

export type Parsed = { readonly value: unknown } | { readonly problem: string }

/** A parsed document, or the sentence that says what is wrong with it. */
export const parse = (text: string): Parsed => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    return { problem: `is not JSON: ${(cause as Error).message}` }
  }
  const problem = fault(text)
  return problem === undefined ? { value } : { problem }
}

/** For sentences: what stands in a file, cut short; `none` where nothing does. */
export const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? "none"
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}

export const isRecord = (u: unknown): u is { readonly [key: string]: unknown } =>
  typeof u === "object" && u !== null && !Array.isArray(u)

/** Several times what any checkpoint's files need. */
const DEEPEST = 100

/** The first key that an object of this (valid) JSON text has twice. Scanned by hand: strings may be of any length. */
const fault = (text: string): string | undefined => {
  // Arrays have no names.
  const open: Array<Set<string>> = []
  for (let at = 0; at < text.length; at++) {
    const char = text[at]
    if (char === "{" || char === "[") {
      if (open.length === DEEPEST) return `nests values more than ${DEEPEST} deep`
      open.push(new Set())
    } else if (char === "}" || char === "]") open.pop()
    else if (char === '"') {
      const end = closingQuote(text, at)
      if (text[afterSpace(text, end + 1)] === ":") {
        const key = JSON.parse(text.slice(at, end + 1)) as string
        const names = open.at(-1)!
        if (names.has(key)) return `names ${shown(key)} twice`
        names.add(key)
      }
      at = end
    }
  }
  return undefined
}

/** Of the string that opens at `at`: the next quote with an even number of backslashes before it. */
const closingQuote = (text: string, at: number): number => {
  let end = text.indexOf('"', at + 1)
  for (; ; end = text.indexOf('"', end + 1)) {
    let escapes = 0
    while (text[end - 1 - escapes] === "\\") escapes++
    if (escapes % 2 === 0) return end
  }
}

const afterSpace = (text: string, at: number): number => {
  let next = at
  while (text[next] === " " || text[next] === "\n" || text[next] === "\r" || text[next] === "\t") next++
  return next
}
