/**
 * The 10,000 lines on which tokenizers are compared: generated, so that they need not be kept.
 * tests/reference/tokenizers_mix.py generates the same lines from the same word lists and ranges
 * (tests/golden/tokenizers/mix.json).
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import type { Tokenizer } from "../../src/data/Tokenizer.ts"

const golden = new URL("../golden/tokenizers/", import.meta.url)
export const LINES = 10_000
export const BLOCK = 100

interface Data {
  readonly [name: string]: ReadonlyArray<string>
}
const read = (): Data & { readonly scripts: never } => JSON.parse(readFileSync(new URL("mix.json", golden), "utf8"))

export const lines = (): ReadonlyArray<string> => {
  const data: Data = read()
  const scripts = data["scripts"] as unknown as ReadonlyArray<ReadonlyArray<string>>
  let state = 1
  /** A whole number in [0, n), n < 2^20: the high bits of a linear congruential generator. */
  const below = (n: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state * n) / 2 ** 32)
  }
  const pick = <A>(values: ReadonlyArray<A>): A => values[below(values.length)]!
  /** One character of one of the ranges, all ranges alike; surrogates become U+FFFD. */
  const scalar = (ranges: ReadonlyArray<string>): string => {
    const [first, last] = pick(ranges).split("-")
    const low = Number.parseInt(first!, 16)
    const span = Number.parseInt(last ?? first!, 16) - low + 1
    const code = low + (span < 2 ** 20 ? below(span) : below(2 ** 16) * 17 + below(17))
    return code >= 0xd800 && code < 0xe000 ? "\ufffd" : String.fromCodePoint(code)
  }
  const repeat = (low: number, high: number, make: () => string): string =>
    Array.from({ length: low + below(high - low + 1) }, make).join("")

  const word = (): string => {
    const word = pick(data["words"]!)
    const style = below(12)
    return style === 0 ? word.toUpperCase() : style === 1 ? word[0]!.toUpperCase() + word.slice(1) : word
  }
  const prose = () =>
    repeat(1, 14, () => {
      const text = word()
      const mark = below(6) === 0 ? pick(data["marks"]!) : ""
      return text + mark + (below(15) > 0 ? " " : "  ")
    })
  const code = () => {
    let text = pick(data["code"]!)
    while (text.includes("{w}")) text = text.replace("{w}", word)
    while (text.includes("{n}")) text = text.replace("{n}", () => String(below(2 ** below(18))))
    return text
  }
  const chinese = () =>
    repeat(1, 12, () => {
      const which = below(10)
      if (which === 0) return pick(data["hanMarks"]!)
      if (which === 1) return word()
      return repeat(1, 4, () => scalar(data[which === 2 ? "kana" : "han"]!))
    })
  const script = () => {
    const ranges = pick(scripts)
    return repeat(1, 8, () => repeat(1, 6, () => scalar(ranges)) + pick([" ", " ", ", ", ""]))
  }
  const emoji = () =>
    repeat(1, 10, () => (below(6) === 0 ? `${word()} ` : scalar(data["emoji"]!) + pick(data["joins"]!)))
  const control = () => repeat(1, 14, () => (below(3) === 0 ? word() : scalar(data["controls"]!)))
  const special = () =>
    repeat(1, 7, () => {
      const token = below(5) > 1 ? pick(data["special"]!) : word()
      return token + pick(["", "", " ", "  ", "\n"])
    })
  const space = () => repeat(1, 12, () => (below(5) > 1 ? pick(data["spaces"]!) : pick([word(), "1", ".", "("])))
  const number = () =>
    repeat(1, 16, () => {
      const which = below(6)
      if (which === 0) return pick(data["signs"]!)
      return which === 1 ? String(below(2 ** 19)) : scalar(data["digits"]!)
    })
  const combining = () =>
    repeat(1, 10, () =>
      below(8) === 0 ? " " : scalar(data["bases"]!) + repeat(0, 3, () => scalar(data["combining"]!)),
    )
  const anything = () => repeat(1, 20, () => scalar(data[below(8) === 0 ? "odd" : "any"]!))
  const mixed = (): string => repeat(2, 4, () => kinds[below(11)]!())
  /** Now and then hundreds of characters without a break, else a short repetition. */
  const long = () => {
    const unit = pick([word(), scalar(data["han"]!), " ", "=", "ab", "\n", "▁", "😀", "0", "é"])
    const times = 1 + below(below(8) === 0 ? 600 : 30)
    return unit.repeat(times) + word()
  }
  // A line's kind is its index modulo their number.
  const kinds: ReadonlyArray<() => string> = [
    prose,
    code,
    chinese,
    script,
    emoji,
    control,
    special,
    space,
    number,
    combining,
    anything,
    mixed,
    long,
  ]
  return Array.from({ length: LINES }, (_, index) => kinds[index % kinds.length]!())
}

/** SHA-256, its first 16 hexadecimal digits. */
export const digest = (parts: ReadonlyArray<string | Uint8Array>): string => {
  const hash = createHash("sha256")
  for (const part of parts) hash.update(part)
  return hash.digest("hex").slice(0, 16)
}

/** Of tests/golden/tokenizers. */
export const file = (name: string): URL => new URL(name, golden)

interface Golden {
  readonly ids: ReadonlyArray<string>
  readonly texts: ReadonlyArray<string>
  readonly samples: { readonly [line: string]: ReadonlyArray<number> }
}

/** Holds a tokenizer to Python's ids of all lines, and to the texts that Python makes of them. */
export const matches = Effect.fnUntraced(function* (
  name: string,
  { decode, encode }: Pick<Tokenizer, "decode" | "encode">,
) {
  const expected: Golden = JSON.parse(readFileSync(file(`${name}.json`), "utf8"))
  const all = lines()
  const ids = yield* Effect.forEach(all, encode)
  for (const [line, own] of Object.entries(expected.samples)) {
    const got = [...ids[Number(line)]!].slice(0, 40)
    assert.deepStrictEqual(got, own, `line ${line}, ${JSON.stringify(all[Number(line)])}`)
  }
  const blocks = Array.from({ length: LINES / BLOCK }, (_, block) => ids.slice(block * BLOCK, (block + 1) * BLOCK))
  const got = {
    ids: blocks.map((block) => digest(block.flatMap((own) => [bytesOf(Int32Array.of(own.length)), bytesOf(own)]))),
    texts: blocks.map((block) => digest(block.map((own) => `${decode(own)}\0`))),
  }
  assert.deepStrictEqual(got, { ids: expected.ids, texts: expected.texts })
})

const bytesOf = (ids: Int32Array): Uint8Array => new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength)

/** Real tokenizers are too large to keep here; where a copy lies beside the project, it is used. */
const beside = new URL("../../../shared/models/tokenizers/", import.meta.url)
/** The file, or where it would be. */
export const real = (path: string): Uint8Array | { readonly missing: string } => {
  const url = new URL(path, beside)
  return existsSync(url) ? readFileSync(url) : { missing: fileURLToPath(url) }
}
