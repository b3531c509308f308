/**
 * SentencePiece's table of character sequences and what each becomes: a double-array trie (Darts) over UTF-8 bytes,
 * then the replacements, each ended by a zero byte. Looked up as Hugging Face tokenizers do (the crate spm_precompiled):
 * a short grapheme as a whole, else each character by itself, and of all prefixes found the shortest.
 */
import * as Effect from "effect/Effect"
import { Malformed } from "./Component.ts"

/** @param base64 length of the trie in bytes (u32), its units (u32 each), the replacements; all little-endian */
export const parse = (base64: string): Effect.Effect<(text: string) => string, Malformed> => {
  const bytes = Buffer.from(base64, "base64")
  const size = bytes.length < 4 ? Number.NaN : bytes.readUInt32LE(0)
  if (!(size > 0 && size % 4 === 0 && 4 + size <= bytes.length)) {
    const reason = `Precompiled: its table of ${bytes.length} bytes does not hold a trie of ${size} bytes`
    return Effect.fail(new Malformed({ reason }))
  }
  const units = Uint32Array.from({ length: size / 4 }, (_, index) => bytes.readUInt32LE(4 + 4 * index))
  return Effect.succeed(normalize(units, bytes.subarray(4 + size)))
}

const offsetOf = (unit: number): number => (unit >>> 10) << ((unit & (1 << 9)) >>> 6)
const hasLeaf = (unit: number): boolean => ((unit >>> 8) & 1) === 1
const valueOf = (unit: number): number => unit & 0x7fffffff
const labelOf = (unit: number): number => (unit & 0x800000ff) >>> 0

/** Where the replacement of the shortest prefix of `key` begins. A step beyond the trie ends the search. */
const search = (units: Uint32Array, key: Uint8Array): number | undefined => {
  let at = offsetOf(units[0]!)
  for (const byte of key) {
    if (byte === 0) return undefined
    at ^= byte
    const unit = units[at]
    if (unit === undefined || labelOf(unit) !== byte) return undefined
    at ^= offsetOf(unit)
    if (hasLeaf(unit)) return valueOf(units[at] ?? 0x7fffffff)
  }
  return undefined
}

const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" })
const utf8 = new TextEncoder()
const text = new TextDecoder("utf-8", { ignoreBOM: true })

const spelled = (replacements: Uint8Array, start: number): string => {
  const end = replacements.indexOf(0, start)
  return text.decode(replacements.subarray(start, end === -1 ? undefined : end))
}

const normalize = (units: Uint32Array, replacements: Uint8Array) => {
  const known = new Map<string, string | undefined>()
  const replacement = (part: string): string | undefined => {
    if (known.has(part)) return known.get(part)
    const start = search(units, utf8.encode(part))
    const found = start === undefined ? undefined : spelled(replacements, start)
    if (known.size < 100_000) known.set(part, found)
    return found
  }
  return (input: string): string => {
    let out = ""
    for (const { segment } of graphemes.segment(input)) {
      const whole = Buffer.byteLength(segment) < 6 ? replacement(segment) : undefined
      if (whole === undefined) for (const character of segment) out += replacement(character) ?? character
      else out += whole
    }
    return out
  }
}
