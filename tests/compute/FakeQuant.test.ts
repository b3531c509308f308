/** Fake quantization inside the graph gives the bits that `math/Affine.ts` gives. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Slab from "../../src/compute/Slab.ts"
import { dequantize, quantize, scaleAndZero, type Grid } from "../../src/math/Affine.ts"
import * as Random from "../../src/math/Random.ts"
import { Block, plain } from "../../src/onnx/Block.ts"
import { type Activation, fakeQuant, type KeyValue } from "../../src/onnx/FakeQuant.ts"
import { roundHalfEven } from "../math/Affine.reference.ts"
import { run } from "../support/session.ts"

const COLUMNS = 24
const random = Random.make(3n)
const normal = () => Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform())
const row = (value: (column: number) => number) => Array.from({ length: COLUMNS }, (_, c) => value(c))

/** Rows where something can go wrong, then ordinary ones of all magnitudes. */
const rows = [
  row(() => 0),
  row(() => -0),
  row(() => 5),
  row(() => -5),
  row(() => 1e-7),
  row((c) => (c % 2 ? 1e-12 : -1e-12)),
  row((c) => c * 1e-40),
  row((c) => 5 + c / COLUMNS),
  row((c) => -6 + c / COLUMNS),
  row((c) => (c === 0 ? 1e4 : c / 100)),
  row((c) => (c === 0 ? -1e4 : c / 100)),
  // Halves: every quotient lies between two codes.
  row((c) => c - 0.5),
  row((c) => (c - 12) / 2),
  row((c) => (c === 0 ? 15 : c / 2)),
  row((c) => (c - 12) * 1e36),
  row((c) => (c % 3 === 0 ? 1 : -1)),
  ...Array.from({ length: 240 }, (_, r) => row(() => normal() * 10 ** ((r % 13) - 6))),
]
const x = Float32Array.from(rows.flat())

const bits = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length)
const same = (actual: Float32Array, expected: Float32Array, what: string) => {
  const [a, e] = [bits(actual), bits(expected)]
  const at = e.findIndex((value, i) => value !== a[i])
  const columns = x.length / rows.length
  if (at >= 0)
    assert.fail(`${what}: row ${Math.floor(at / columns)}: ${x[at]} became ${actual[at]}, not ${expected[at]}`)
}

const activation = (quantizer: Activation) =>
  Effect.gen(function* () {
    const b = new Block(plain)
    const hooks = fakeQuant({ activations: { site: quantizer }, keyValue: undefined })
    const value = hooks.linear(b, "site", b.graph.input("x", "float32", ["rows", COLUMNS]), COLUMNS)
    b.graph.output("y", value, "float32", ["rows", COLUMNS])
    const dims = [rows.length, COLUMNS]
    const y = Slab.make("float32", dims)
    yield* run(b.graph, { x: Slab.of(dims, x) }, { y })
    return Float32Array.from(Slab.floats(y))
  })

const reconstruct = (grid: Grid, group: "channel" | number) => {
  const out = new Float32Array(x.length)
  dequantize(quantize(x, rows.length, COLUMNS, grid, group), out)
  return out
}

/** One value on a known grid, as the formulas read. */
const onGrid = (value: number, { bits, symmetric }: Grid, scale: number, zero: number) => {
  const edge = 2 ** (bits - 1)
  const [low, high] = symmetric ? [-edge, edge - 1] : [-zero, 2 ** bits - 1 - zero]
  return Math.fround(Math.min(Math.max(roundHalfEven(Math.fround(value / scale)), low), high) * scale) + 0
}

for (const symmetric of [false, true]) {
  for (const range of symmetric ? (["fixed"] as const) : (["fixed", "compat"] as const)) {
    describe(`${symmetric ? "symmetric" : "asymmetric"}, ${range}`, () => {
      for (const width of [2, 3, 4, 5, 6, 7, 8]) {
        const grid: Grid = { bits: width, symmetric, range }
        it.effect(`${width} bits`, () =>
          Effect.gen(function* () {
            same(yield* activation({ kind: "dynamic", ...grid }), reconstruct(grid, "channel"), "dynamic")
            for (const [low, high] of [
              [-3, 5],
              [0, 7],
              [2, 9],
              [-1e-7, 1e-7],
              [-4e3, 1e-3],
            ] as const) {
              const { scale, zero } = scaleAndZero(Math.fround(low), Math.fround(high), grid)
              const placed = symmetric ? 0 : zero
              const actual = yield* activation({ kind: "static", ...grid, scale, zero: placed })
              same(
                actual,
                x.map((value) => onGrid(value, grid, scale, placed)),
                `static ${low} to ${high}`,
              )
            }
            for (const group of [3, 12]) {
              const [keys, values] = yield* cache({
                keys: grid,
                values: { ...grid, bits: 10 - width },
                group,
                point: "after-rope",
              })
              same(keys, reconstruct(grid, group), `keys in groups of ${group}`)
              same(values, reconstruct({ ...grid, bits: 10 - width }, group), `values in groups of ${group}`)
            }
            // Every channel of the keys on a grid of its own, known beforehand.
            const grids = Array.from({ length: COLUMNS }, (_, c) => scaleAndZero(-1 - c, Math.fround(c / 3), grid))
            const [scales, zeros] = [grids.map(({ scale }) => scale), grids.map(({ zero }) => (symmetric ? 0 : zero))]
            const [keys] = yield* cache({
              keys: grid,
              values: grid,
              group: 12,
              point: "after-rope",
              channels: { scales, zeros },
            })
            same(
              keys,
              x.map((value, i) => onGrid(value, grid, scales[i % COLUMNS]!, zeros[i % COLUMNS]!)),
              "keys per channel",
            )
          }),
        )
      }
    })
  }
}

/** The rows as K and as V of 2 heads of 12, in 4 sequences. */
const cache = (keyValue: KeyValue) =>
  Effect.gen(function* () {
    const b = new Block(plain)
    const dims = [4, rows.length / 4, COLUMNS]
    const port = (name: string) => b.graph.input(name, "float32", ["batch", "sequence", COLUMNS])
    const hooks = fakeQuant({ activations: {}, keyValue })
    const heads = { query: 4, keyValue: 2, dim: 12 }
    assert.strictEqual(hooks.keys(b, port("k"), heads, "before-rope").name, "k")
    const out = [hooks.keys(b, port("k"), heads, "after-rope"), hooks.values(b, port("v"), heads)] as const
    const [key, value] = [Slab.make("float32", dims), Slab.make("float32", dims)]
    b.graph.output("key", out[0], "float32", ["batch", "sequence", COLUMNS])
    b.graph.output("value", out[1], "float32", ["batch", "sequence", COLUMNS])
    yield* run(b.graph, { k: Slab.of(dims, x), v: Slab.of(dims, x) }, { key, value })
    return [Float32Array.from(Slab.floats(key)), Float32Array.from(Slab.floats(value))] as const
  })

const hooks = () => {
  const quantizer: Activation = { kind: "dynamic", bits: 8, symmetric: false, range: "fixed" }
  return fakeQuant({ activations: { a: quantizer, b: quantizer, c: { ...quantizer, bits: 4 } }, keyValue: undefined })
}

describe("the quantized input", () => {
  it("is made once for the sites that share it and its grid", () => {
    const { linear } = hooks()
    const b = new Block(plain)
    const x = b.rmsNorm("norm", COLUMNS, 1e-5, b.graph.input("x", "float32", ["rows", COLUMNS]))
    const made = ["a", "b", "c", "free"].map((site) => linear(b, site, x, COLUMNS))
    assert.strictEqual(made[0]!.name, made[1]!.name)
    assert.notStrictEqual(made[0]!.name, made[2]!.name)
    assert.strictEqual(made[3], x)
    for (const { from } of made) assert.strictEqual(from?.site, "norm")
  })
})
