/** The selective scan against the recurrence written out, its chunks, its padding, and states that are quantized. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Slab from "../../src/compute/Slab.ts"
import { dequantize, quantize } from "../../src/math/Affine.ts"
import * as Random from "../../src/math/Random.ts"
import { Block, type Hooks, plain } from "../../src/onnx/Block.ts"
import { fakeQuant, type State } from "../../src/onnx/FakeQuant.ts"
import { selective } from "../../src/onnx/Scan.ts"
import { run } from "../support/session.ts"

const [SIZE, CHANNELS] = [6, 10]
const DIMS = [SIZE, CHANNELS] as const

interface Sequence {
  readonly dt: Float32Array
  readonly x: Float32Array
  readonly B: Float32Array
  readonly C: Float32Array
}
interface Result {
  readonly y: Float32Array
  readonly state: Float32Array<ArrayBufferLike>
}

const random = Random.make(7n)
const noise = (length: number) => Float32Array.from({ length }, () => 2 * random.uniform() - 1)
/** Decays of 0.05 to 20 per unit of time. */
const A = noise(SIZE * CHANNELS).map((x) => -Math.exp(3 * x))
/** Steps from 1e-6 to 1e3: states are kept and forgotten. */
const sequence = (length: number): Sequence => {
  const dt = noise(length * CHANNELS).map((x) => 10 ** (4.5 * x - 1.5))
  return {
    dt,
    x: noise(length * CHANNELS).map((x, i) => x * Math.min(dt[i]!, 1)),
    B: noise(length * SIZE),
    C: noise(length * SIZE),
  }
}
const part = ({ B, C, dt, x }: Sequence, from: number, to: number): Sequence => ({
  dt: dt.slice(from * CHANNELS, to * CHANNELS),
  x: x.slice(from * CHANNELS, to * CHANNELS),
  B: B.slice(from * SIZE, to * SIZE),
  C: C.slice(from * SIZE, to * SIZE),
})
const zeros = new Float32Array(SIZE * CHANNELS)

/** Token by token, as the formula reads. */
const slow = ({ B, C, dt, x }: Sequence, store: (state: Float64Array) => Float64Array): Result => {
  const length = dt.length / CHANNELS
  const y = new Float32Array(x.length)
  let h = new Float64Array(zeros)
  for (let t = 0; t < length; t++) {
    h = h.map((value, i) => {
      const [n, c] = [Math.floor(i / CHANNELS), i % CHANNELS]
      return Math.exp(dt[t * CHANNELS + c]! * A[i]!) * value + B[t * SIZE + n]! * x[t * CHANNELS + c]!
    })
    for (let c = 0; c < CHANNELS; c++)
      for (let n = 0; n < SIZE; n++) y[t * CHANNELS + c]! += C[t * SIZE + n]! * h[n * CHANNELS + c]!
    h = Float64Array.from(store(h))
  }
  return { y, state: Float32Array.from(h) }
}

/** All sequences in one batch, padded to the longest with values that would be seen. */
const scan = (
  sequences: ReadonlyArray<Sequence>,
  past: ReadonlyArray<Result["state"]> = sequences.map(() => zeros),
  hooks: Hooks = plain,
) =>
  Effect.gen(function* () {
    const lengths = sequences.map(({ dt }) => dt.length / CHANNELS)
    const width = Math.max(...lengths)
    const b = new Block(hooks)
    const port = (name: string, columns: number) => b.graph.input(name, "float32", ["batch", "sequence", columns])
    const out = selective(b, "h", DIMS, {
      dt: port("dt", CHANNELS),
      x: port("x", CHANNELS),
      B: port("B", SIZE),
      C: port("C", SIZE),
      A: b.graph.input("A", "float32", DIMS),
      past: b.past("h", DIMS),
    })
    b.graph.output("y", out.y, "float32", ["batch", "sequence", CHANNELS])
    b.keep("h", out.state, DIMS)
    const filled = (name: keyof Sequence, columns: number) => {
      const slab = Slab.make("float32", [sequences.length, width, columns])
      Slab.floats(slab).fill(3)
      sequences.forEach((own, i) => Slab.floats(slab).set(own[name], i * width * columns))
      return slab
    }
    const y = Slab.make("float32", [sequences.length, width, CHANNELS])
    const state = Slab.make("float32", [sequences.length, ...DIMS])
    const feeds = {
      dt: filled("dt", CHANNELS),
      x: filled("x", CHANNELS),
      B: filled("B", SIZE),
      C: filled("C", SIZE),
      A: Slab.of(DIMS, A),
      valid: Slab.ints([sequences.length], lengths),
      "past.h": Slab.of([sequences.length, ...DIMS], Float32Array.from(past.flatMap((own) => [...own]))),
    }
    yield* run(b.graph, feeds, { y, "state.h": state })
    return lengths.map((length, i): Result & { readonly padding: Float32Array } => {
      const rows = Slab.floats(y).slice(i * width * CHANNELS, (i + 1) * width * CHANNELS)
      return {
        y: rows.slice(0, length * CHANNELS),
        padding: rows.slice(length * CHANNELS),
        state: Slab.floats(state).slice(i * SIZE * CHANNELS, (i + 1) * SIZE * CHANNELS),
      }
    })
  })

/** Largest difference, as a fraction of the largest expected magnitude. */
const distance = (actual: Float32Array, expected: Float32Array) => {
  assert.strictEqual(actual.length, expected.length)
  assert.isTrue(actual.every(Number.isFinite))
  const largest = expected.reduce((max, x) => Math.max(max, Math.abs(x)), 0)
  return actual.reduce((max, x, i) => Math.max(max, Math.abs(x - expected[i]!)), 0) / largest
}
const assertSame = (actual: Result, expected: Result, what: string) => {
  assert.deepStrictEqual(actual.y, expected.y, what)
  assert.deepStrictEqual(actual.state, expected.state, what)
}

/** Fewer than a chunk, whole chunks, and some more. */
const LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 50]

describe("selective scan", () => {
  it.effect("is the recurrence, for any step", () =>
    Effect.gen(function* () {
      for (const length of LENGTHS) {
        const own = sequence(length)
        const [actual] = yield* scan([own])
        const expected = slow(own, (h) => h)
        assert.isBelow(distance(actual!.y, expected.y), 2e-6, `${length}`)
        assert.isBelow(distance(actual!.state, expected.state), 2e-6, `${length}`)
      }
    }),
  )

  it.effect("gives a sequence the same bits in any company, and nothing to padding", () =>
    Effect.gen(function* () {
      const sequences = LENGTHS.map(sequence)
      const together = yield* scan(sequences)
      for (const [i, own] of sequences.entries()) {
        const [alone] = yield* scan([own])
        assertSame(together[i]!, alone!, `${LENGTHS[i]}`)
        assert.isTrue(together[i]!.padding.every((x) => x === 0))
      }
    }),
  )

  it.effect("goes on from a state, wherever it was left, with the same bits", () =>
    Effect.gen(function* () {
      const own = sequence(50)
      const [whole] = yield* scan([own])
      for (const at of [1, 16, 20, 49]) {
        const [first] = yield* scan([part(own, 0, at)])
        const [second] = yield* scan([part(own, at, 50)], [first!.state])
        assertSame(
          { y: Float32Array.of(...first!.y, ...second!.y), state: second!.state },
          whole!,
          `in two parts at ${at}`,
        )
      }
      let state: Result["state"] = zeros
      const ys: Array<number> = []
      for (let t = 0; t < 50; t++) {
        const [step] = yield* scan([part(own, t, t + 1)], [state])
        state = step!.state
        ys.push(...step!.y)
      }
      assertSame({ y: Float32Array.from(ys), state }, whole!, "token by token")
    }),
  )
})

describe("a quantized state", () => {
  const grid = (bits: number, group = SIZE): State => ({ bits, symmetric: false, range: "fixed", group })
  const hooks = (state: State) => fakeQuant({ activations: {}, keyValue: undefined, states: { h: state } })
  /** Each channel's groups, by the arithmetic of the weights. */
  const stored =
    ({ group, ...own }: State) =>
    (h: Float64Array) => {
      const byChannel = Float32Array.from(
        { length: h.length },
        (_, i) => h[(i % SIZE) * CHANNELS + Math.floor(i / SIZE)]!,
      )
      const back = new Float32Array(h.length)
      dequantize(quantize(byChannel, CHANNELS, SIZE, own, group), back)
      return h.map((_, i) => back[(i % CHANNELS) * SIZE + Math.floor(i / CHANNELS)]!)
    }

  it.effect("is rounded after every token", () =>
    Effect.gen(function* () {
      const own = sequence(20)
      for (const state of [grid(8), grid(4, 3), { ...grid(6), symmetric: true }, grid(8, 1)]) {
        const [actual] = yield* scan([own], [zeros], hooks(state))
        const expected = slow(own, stored(state))
        // A last bit may fall to the other side of a half: then a code differs by one.
        const step = 2 ** -(state.bits - 1)
        assert.isBelow(distance(actual!.y, expected.y), step / 4, JSON.stringify(state))
        assert.isBelow(distance(actual!.state, expected.state), step, JSON.stringify(state))
      }
      const [once] = yield* scan([part(own, 0, 1)], [zeros], hooks(grid(4, 3)))
      const [exact] = yield* scan([part(own, 0, 1)])
      assert.deepStrictEqual(once!.y, exact!.y, "what a token gives is read off the state before it is stored")
      assert.deepStrictEqual([...once!.state], [...stored(grid(4, 3))(Float64Array.from(exact!.state))])
    }),
  )

  it.effect("nearly is the state in 8 bits, and is not in 2", () =>
    Effect.gen(function* () {
      const own = sequence(50)
      const [exact] = yield* scan([own])
      const [eight] = yield* scan([own], [zeros], hooks(grid(8)))
      const [two] = yield* scan([own], [zeros], hooks(grid(2)))
      assert.isBelow(distance(eight!.y, exact!.y), 0.03)
      assert.isAbove(distance(eight!.y, exact!.y), 0)
      assert.isAbove(distance(two!.y, exact!.y), 0.1)
    }),
  )

  it.effect("is the same token by token as at once, and whatever the padding", () =>
    Effect.gen(function* () {
      const own = sequence(40)
      const quantized = hooks(grid(3))
      const [whole] = yield* scan([own], [zeros], quantized)
      const [first] = yield* scan([part(own, 0, 21), sequence(37)], [zeros, zeros], quantized)
      let state = first!.state
      const ys = [...first!.y]
      for (let t = 21; t < 40; t++) {
        const [step] = yield* scan([part(own, t, t + 1)], [state], quantized)
        state = step!.state
        ys.push(...step!.y)
      }
      assertSame({ y: Float32Array.from(ys), state }, whole!, "in parts")
    }),
  )
})
