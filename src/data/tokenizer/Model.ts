/**
 * Finds the tokens of a word. Ported from Hugging Face tokenizers (Rust): byte-pair encoding by a heap of ranked merges,
 * so that time grows as n log n; @huggingface/tokenizers 0.2.0 has no byte fallback for unigram models, joins unknown
 * tokens across words, and drops what it does not know.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Json from "../Json.ts"
import { type Build, choose, Malformed, or, part } from "./Component.ts"

export interface Model {
  readonly ids: ReadonlyMap<string, number>
  /** Appends the ids of a word's tokens; returns the part of it for which there is no token, if any. */
  readonly encode: (word: string, to: Array<number>) => string | undefined
}

const utf8 = new TextEncoder()
const malformed = (reason: string) => Effect.fail(new Malformed({ reason }))

/** token -> id, every id a whole number. */
const vocabularyOf = (vocab: unknown): Effect.Effect<ReadonlyMap<string, number>, Malformed> => {
  if (!Json.isRecord(vocab)) return malformed("its model has no table of tokens, vocab")
  const entries = Object.entries(vocab)
  const wrong = entries.find(([, id]) => !Number.isSafeInteger(id) || (id as number) < 0 || (id as number) >= 2 ** 26)
  return wrong === undefined
    ? Effect.succeed(new Map(entries as Array<[string, number]>))
    : malformed(`the id of ${Json.shown(wrong[0])} is ${Json.shown(wrong[1])}; expected a whole number`)
}

/** The ids of `<0x00>` to `<0xFF>`; a hole where the vocabulary lacks one. */
const byteIds = (ids: ReadonlyMap<string, number>): ReadonlyArray<number | undefined> =>
  Array.from({ length: 256 }, (_, byte) => ids.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`))

/** The ids of a text's bytes, or nothing where one has none. */
const fallback = (bytes: ReadonlyArray<number | undefined>, text: string): ReadonlyArray<number> | undefined => {
  const own = Array.from(utf8.encode(text), (byte) => bytes[byte])
  return own.includes(undefined) ? undefined : (own as Array<number>)
}

type Merges = {
  /** left * base + right -> rank; the lower, the sooner. */
  readonly ranks: ReadonlyMap<number, number>
  readonly base: number
  /** rank -> id of the union. */
  readonly wholes: ReadonlyArray<number>
}

const mergesOf = (merges: unknown, ids: ReadonlyMap<string, number>): Effect.Effect<Merges, Malformed> => {
  if (!Array.isArray(merges)) return malformed("its model has no list of merges")
  const base = [...ids.values()].reduce((most, id) => Math.max(most, id), 0) + 1
  const ranks = new Map<number, number>()
  const wholes: Array<number> = []
  for (const [rank, merge] of merges.entries()) {
    const pair: unknown = typeof merge === "string" ? merge.split(" ") : merge
    const [left, right, ...more] = Array.isArray(pair) ? pair : []
    if (typeof left !== "string" || typeof right !== "string" || more.length > 0) {
      return malformed(`merge ${rank + 1} is ${Json.shown(merge)}; expected two tokens`)
    }
    const [a, b, whole] = [ids.get(left), ids.get(right), ids.get(left + right)]
    if (a === undefined || b === undefined || whole === undefined) {
      return malformed(`merge ${rank + 1}, ${Json.shown(merge)}, has a part or a result that is no token`)
    }
    ranks.set(a * base + b, rank)
    wholes.push(whole)
  }
  return Effect.succeed({ ranks, base, wholes })
}

/** Numbers, smallest first. */
class Heap {
  private readonly items: Array<number> = []
  push(item: number): void {
    const { items } = this
    let at = items.length
    items.push(item)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (items[parent]! <= item) break
      items[at] = items[parent]!
      at = parent
    }
    items[at] = item
  }
  pop(): number | undefined {
    const { items } = this
    const top = items[0]
    const last = items.pop()
    if (last === undefined || items.length === 0) return top
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child + 1 < items.length && items[child + 1]! < items[child]!) child++
      if (child >= items.length || items[child]! >= last) break
      items[at] = items[child]!
      at = child
    }
    items[at] = last
    return top
  }
}

/** A heap entry is rank * PLACES + position: the best merge first, of equals the leftmost. */
const PLACES = 2 ** 31

/** Merges neighbours in `symbols` until none of the merges applies. */
const mergeAll = (symbols: ReadonlyArray<number>, { base, ranks, wholes }: Merges): ReadonlyArray<number> => {
  const ids = Int32Array.from(symbols)
  const n = ids.length
  const next = Int32Array.from({ length: n }, (_, i) => i + 1)
  const previous = Int32Array.from({ length: n }, (_, i) => i - 1)
  const heap = new Heap()
  const rankAt = (at: number): number | undefined => {
    const right = next[at]!
    return right < n ? ranks.get(ids[at]! * base + ids[right]!) : undefined
  }
  const offer = (at: number) => {
    const rank = rankAt(at)
    if (rank !== undefined) heap.push(rank * PLACES + at)
  }
  for (let at = 0; at < n - 1; at++) offer(at)
  for (let entry = heap.pop(); entry !== undefined; entry = heap.pop()) {
    const at = entry % PLACES
    const rank = (entry - at) / PLACES
    // Swallowed by a merge, or beside another neighbour by now.
    if (ids[at] === -1 || rankAt(at) !== rank) continue
    const gone = next[at]!
    ids[at] = wholes[rank]!
    ids[gone] = -1
    next[at] = next[gone]!
    if (next[at]! < n) previous[next[at]!] = at
    if (previous[at]! >= 0) offer(previous[at]!)
    offer(at)
  }
  return Array.from(ids).filter((id) => id !== -1)
}

const Bpe = Schema.Struct({
  // A dropout of zero is none.
  dropout: or(Schema.Literal(0)),
  unk_token: or(Schema.String),
  continuing_subword_prefix: or(Schema.Literal("")),
  end_of_word_suffix: or(Schema.Literal("")),
  fuse_unk: or(Schema.Boolean),
  byte_fallback: or(Schema.Boolean),
  ignore_merges: or(Schema.Boolean),
  vocab: Schema.Unknown,
  merges: Schema.Unknown,
})

const bpe = Effect.fnUntraced(function* (settings: typeof Bpe.Type) {
  const ids = yield* vocabularyOf(settings.vocab)
  const merges = yield* mergesOf(settings.merges, ids)
  const bytes = settings.byte_fallback === true ? byteIds(ids) : []
  const unknown = ids.get(settings.unk_token ?? "")
  const known = new Map<string, ReadonlyArray<number>>()

  /** One symbol for each character: its id, its bytes' ids, or the unknown token. */
  const symbolsOf = (word: string): ReadonlyArray<number> => {
    const symbols: Array<number> = []
    let pending = false
    for (const character of word) {
      const id = ids.get(character)
      if (id !== undefined) {
        if (pending) symbols.push(unknown!)
        pending = false
        symbols.push(id)
        continue
      }
      const own = bytes.length > 0 ? fallback(bytes, character) : undefined
      if (own !== undefined) {
        symbols.push(...own)
        continue
      }
      // Without an unknown token the character is left out, as in Python.
      if (unknown === undefined) continue
      if (pending && settings.fuse_unk !== true) symbols.push(unknown)
      pending = true
    }
    if (pending) symbols.push(unknown!)
    return symbols
  }
  const encode: Model["encode"] = (word, to) => {
    const cached = known.get(word)
    if (cached !== undefined) {
      for (const id of cached) to.push(id)
      return undefined
    }
    const whole = settings.ignore_merges === true ? ids.get(word) : undefined
    const symbols = whole === undefined ? symbolsOf(word) : [whole]
    const tokens = symbols.length > 1 ? mergeAll(symbols, merges) : symbols
    if (known.size >= 10_000) known.clear()
    if (word.length < 256) known.set(word, tokens)
    for (const id of tokens) to.push(id)
    return undefined
  }
  return { ids, encode } satisfies Model as Model
})

interface Node {
  readonly next: Map<number, Node>
  id: number | undefined
}

const Unigram = Schema.Struct({
  unk_id: Schema.NullOr(Schema.Int),
  byte_fallback: or(Schema.Boolean),
  vocab: Schema.Array(Schema.Unknown),
})

const unigram = Effect.fnUntraced(function* (settings: typeof Unigram.Type) {
  const scores = new Float64Array(settings.vocab.length)
  const ids = new Map<string, number>()
  const root: Node = { next: new Map(), id: undefined }
  for (const [id, entry] of settings.vocab.entries()) {
    const [token, score] = Array.isArray(entry) ? entry : []
    if (typeof token !== "string" || typeof score !== "number") {
      return yield* malformed(`entry ${id} of vocab is ${Json.shown(entry)}; expected a token and its score`)
    }
    scores[id] = score
    ids.set(token, id)
    let node = root
    for (let i = 0; i < token.length; i++) {
      const unit = token.charCodeAt(i)
      let child = node.next.get(unit)
      if (child === undefined) node.next.set(unit, (child = { next: new Map(), id: undefined }))
      node = child
    }
    node.id = id
  }
  const { unk_id: unknown } = settings
  if (unknown !== null && !(unknown >= 0 && unknown < scores.length)) {
    return yield* malformed(`unk_id is ${unknown}; expected null or an entry of vocab`)
  }
  const unknownScore = scores.reduce((least, score) => Math.min(least, score), Number.POSITIVE_INFINITY) - 10
  const bytes = settings.byte_fallback === true ? byteIds(ids) : []

  /** The cut of the best summed score (Viterbi): where each token begins and which it is, last first; -1 is unknown. */
  const best = (word: string): ReadonlyArray<readonly [start: number, end: number, id: number]> => {
    const n = word.length
    const score = new Float64Array(n + 1).fill(Number.NaN)
    const from = new Int32Array(n + 1)
    const token = new Int32Array(n + 1)
    score[0] = 0
    const offer = (start: number, end: number, id: number, candidate: number) => {
      // Of equals the first stays: written so that a place not yet reached (NaN) is taken.
      if (candidate <= score[end]!) return
      score[end] = candidate
      from[end] = start
      token[end] = id
    }
    for (let start = 0; start < n;) {
      const width = word.codePointAt(start)! > 0xffff ? 2 : 1
      const here = score[start]!
      let single = false
      let node: Node | undefined = root
      for (let end = start; end < n;) {
        node = node.next.get(word.charCodeAt(end++))
        if (node === undefined) break
        if (node.id === undefined) continue
        offer(start, end, node.id, scores[node.id]! + here)
        if (end - start === width) single = true
      }
      if (!single) offer(start, start + width, -1, unknownScore + here)
      start += width
    }
    const path: Array<readonly [number, number, number]> = []
    for (let end = n; end > 0; end = from[end]!) path.push([from[end]!, end, token[end]!])
    return path
  }
  const encode: Model["encode"] = (word, to) => {
    const isUnknown = (id: number) => id === -1 || id === unknown
    for (let path = best(word), i = path.length - 1; i >= 0; i--) {
      const [start, first, id] = path[i]!
      if (!isUnknown(id)) {
        to.push(id)
        continue
      }
      // Unknown neighbours are one token.
      let end = first
      while (i > 0 && isUnknown(path[i - 1]![2])) end = path[--i]![1]
      const text = word.slice(start, end)
      const own = bytes.length > 0 ? fallback(bytes, text) : undefined
      const whole = ids.get(text) ?? unknown
      if (ids.has(text) || own === undefined) {
        if (whole === null) return text
        to.push(whole)
      } else {
        to.push(...own)
      }
    }
    return undefined
  }
  return { ids, encode } satisfies Model as Model
})

const wordLevel = Effect.fnUntraced(function* (settings: { readonly vocab: unknown; readonly unk_token: string }) {
  const ids = yield* vocabularyOf(settings.vocab)
  const unknown = ids.get(settings.unk_token)
  return {
    ids,
    encode: (word, to) => {
      const id = ids.get(word) ?? unknown
      if (id === undefined) return word
      to.push(id)
      return undefined
    },
  } satisfies Model as Model
})

const parts: { readonly [type: string]: Build<Model> } = {
  BPE: part(Bpe, bpe),
  Unigram: part(Unigram, unigram),
  WordLevel: part(Schema.Struct({ vocab: Schema.Unknown, unk_token: Schema.String }), wordLevel),
}

/** Files of early versions name no type; a list of merges tells byte-pair encoding, a list of tokens a unigram model. */
export const model = (config: unknown): Effect.Effect<Model, Malformed> => {
  const untyped = Json.isRecord(config) && config["type"] === undefined
  const type =
    untyped && Array.isArray(config["merges"])
      ? "BPE"
      : untyped && Array.isArray(config["vocab"])
        ? "Unigram"
        : undefined
  return choose("model", () => parts)(type === undefined ? config : { ...(config as object), type })
}
