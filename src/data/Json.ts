/** JSON of a file that may not be what it claims: unlike `JSON.parse` alone, a name given twice is an error. */

export type Parsed = { readonly value: unknown } | { readonly problem: string }

/** A parsed document, or the sentence that says what is wrong with it. */
export const parse = (text: string): Parsed => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    return { problem: `is not JSON: ${(cause as Error).message}` }
  }
  const twice = duplicate(text)
  return twice === undefined ? { value } : { problem: `names ${JSON.stringify(twice)} twice` }
}

export const isRecord = (u: unknown): u is { readonly [key: string]: unknown } =>
  typeof u === "object" && u !== null && !Array.isArray(u)

/** The first key that an object of this (valid) JSON text has twice. */
const duplicate = (text: string): string | undefined => {
  const open: Array<Set<string>> = []
  for (const match of text.matchAll(/("(?:[^"\\]|\\.)*")\s*(:)?|[{}]/g)) {
    const [token, string, colon] = match
    if (token === "{") open.push(new Set())
    else if (token === "}") open.pop()
    else if (colon !== undefined) {
      const key = JSON.parse(string!) as string
      const names = open.at(-1)!
      if (names.has(key)) return key
      names.add(key)
    }
  }
  return undefined
}
