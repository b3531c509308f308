/** Attention with a soft cap against its formula, in any company, and after a cache. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Slab from "../../src/compute/Slab.ts"
import * as Random from "../../src/math/Random.ts"
import { Block, plain } from "../../src/onnx/Block.ts"
import { run } from "../support/session.ts"

const HEADS = { query: 6, keyValue: 2, dim: 8 }
const SHARING = HEADS.query / HEADS.keyValue
const [WIDE, NARROW] = [HEADS.query * HEADS.dim, HEADS.keyValue * HEADS.dim]
const SCALE = 0.4
/** Below many scores: they differ from what they would be without it. */
const SOFTCAP = 1.5

interface Sequence {
  readonly q: Float32Array
  readonly k: Float32Array
  readonly v: Float32Array
}
const random = Random.make(11n)
const noise = (length: number) => Float32Array.from({ length }, () => 4 * random.uniform() - 2)
const sequence = (length: number): Sequence => ({
  q: noise(length * WIDE),
  k: noise(length * NARROW),
  v: noise(length * NARROW),
})
const lengthOf = ({ q }: Sequence) => q.length / WIDE

/** As the formula reads. */
const slow = ({ k, q, v }: Sequence, window = Infinity): Float32Array => {
  const { dim, query } = HEADS
  const out = new Float32Array(q.length)
  for (let t = 0; t < q.length / WIDE; t++) {
    for (let h = 0; h < query; h++) {
      const at = (position: number) => position * NARROW + Math.floor(h / SHARING) * dim
      const first = Math.max(0, t - window + 1)
      const weights = Array.from({ length: t - first + 1 }, (_, i) => {
        let product = 0
        for (let c = 0; c < dim; c++) product += q[t * WIDE + h * dim + c]! * k[at(first + i) + c]!
        return Math.exp(SOFTCAP * Math.tanh((product * SCALE) / SOFTCAP))
      })
      const sum = weights.reduce((total, weight) => total + weight, 0)
      for (let c = 0; c < dim; c++)
        out[t * WIDE + h * dim + c] = weights.reduce((y, weight, i) => y + (weight / sum) * v[at(first + i) + c]!, 0)
    }
  }
  return out
}

/** All sequences in one batch, padded to the longest, or to `width`, after `past` tokens of each in caches. */
const attend = (
  sequences: ReadonlyArray<Sequence>,
  { past, width = Math.max(...sequences.map(lengthOf)), window }: Options = {},
) =>
  Effect.gen(function* () {
    const b = new Block(plain)
    const port = (name: string, columns: number) => b.graph.input(name, "float32", ["batch", "sequence", columns])
    const mixed = b.attention(port("q", WIDE), port("k", NARROW), port("v", NARROW), {
      heads: HEADS,
      scale: SCALE,
      softcap: SOFTCAP,
      ...(window !== undefined && { window }),
    })
    b.graph.output("out", mixed, "float32", ["batch", "sequence", WIDE])
    const count = sequences.length
    const filled = (name: keyof Sequence, columns: number) => {
      const slab = Slab.make("float32", [count, width, columns])
      Slab.floats(slab).fill(3)
      sequences.forEach((own, i) => Slab.floats(slab).set(own[name], i * width * columns))
      return slab
    }
    const pasts = (past ?? []).map(lengthOf)
    const room = Math.max(0, ...pasts)
    const { dim, keyValue } = HEADS
    const cached = (name: "k" | "v") => {
      const slab = Slab.make("float32", [count, keyValue, room, dim])
      past?.forEach((own, i) =>
        own[name].forEach((x, at) => {
          const [position, head, c] = [Math.floor(at / NARROW), Math.floor(at / dim) % keyValue, at % dim]
          Slab.floats(slab)[((i * keyValue + head) * room + position) * dim + c] = x
        }),
      )
      return slab
    }
    const before = (i: number) => pasts[i] ?? 0
    const out = Slab.make("float32", [count, width, WIDE])
    const fresh = () => Slab.make("float32", [count, width, NARROW])
    const feeds = {
      q: filled("q", WIDE),
      k: filled("k", NARROW),
      v: filled("v", NARROW),
      pastKey: cached("k"),
      pastValue: cached("v"),
      lengths: Slab.ints(
        [count],
        sequences.map((_, i) => before(i) + width - 1),
      ),
      total: Slab.ints([], [room + width]),
    }
    yield* run(b.graph, feeds, { out, key: fresh(), value: fresh() })
    return sequences.map((own, i) =>
      Slab.floats(out)
        .slice(i * width * WIDE)
        .slice(0, own.q.length),
    )
  })
interface Options {
  readonly past?: ReadonlyArray<Sequence>
  readonly width?: number
  readonly window?: number
}

const assertNear = (actual: Float32Array, expected: Float32Array, what: string) => {
  assert.strictEqual(actual.length, expected.length)
  const worst = expected.reduce((max, x, i) => Math.max(max, Math.abs(x - actual[i]!)), 0)
  assert.isAtMost(worst, 2e-6, what)
}

/** Less than a tile of 64, whole tiles, and some more. */
const LENGTHS = [2, 3, 63, 64, 65, 128, 150, 200]

describe("attention with a soft cap", () => {
  it.effect("is its formula", () =>
    Effect.gen(function* () {
      for (const length of LENGTHS) {
        const own = sequence(length)
        const [actual] = yield* attend([own])
        assertNear(actual!, slow(own), `${length}`)
      }
    }),
  )

  it.effect("sees no more than its window", () =>
    Effect.gen(function* () {
      const own = sequence(200)
      for (const window of [1, 2, 63, 64, 65, 66, 130, 200, 300]) {
        const [actual] = yield* attend([own], { window })
        assertNear(actual!, slow(own, window), `${window}`)
      }
    }),
  )

  it.effect("gives a sequence the same bits in any company", () =>
    Effect.gen(function* () {
      for (const window of [undefined, 70]) {
        const sequences = LENGTHS.map(sequence)
        const options = window === undefined ? {} : { window }
        const together = yield* attend(sequences, options)
        for (const [i, own] of sequences.entries()) {
          const [alone] = yield* attend([own], options)
          assert.deepStrictEqual(together[i]!, alone!, `${LENGTHS[i]} of ${window}`)
        }
      }
    }),
  )

  it.effect("goes on after a cache", () =>
    Effect.gen(function* () {
      const wholes = [sequence(100), sequence(71)]
      const part = (whole: Sequence, from: number, to?: number): Sequence => ({
        q: whole.q.slice(from * WIDE, to && to * WIDE),
        k: whole.k.slice(from * NARROW, to && to * NARROW),
        v: whole.v.slice(from * NARROW, to && to * NARROW),
      })
      const past = wholes.map((whole) => part(whole, 0, lengthOf(whole) - 1))
      const last = wholes.map((whole) => part(whole, lengthOf(whole) - 1))
      for (const window of [undefined, 20]) {
        const options = window === undefined ? { past } : { past, window }
        const next = yield* attend(last, options)
        wholes.forEach((whole, i) => assertNear(next[i]!, slow(whole, window).slice(-WIDE), `${i} of ${window}`))
      }
    }),
  )
})
