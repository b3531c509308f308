import { assert, describe, it } from "@effect/vitest"
import * as Affine from "../../src/math/Affine.ts"
import { unpack, packedBytes } from "../../src/math/Bits.ts"
import { make } from "../../src/math/Random.ts"
import { reference } from "./Affine.reference.ts"

const grid = (bits: number, symmetric = false, range: Affine.Range = "fixed"): Affine.Grid => ({
  bits,
  symmetric,
  range,
})

/** Codes one by one, signed where the grid is symmetric, as the formulas and PyTorch have them. */
const codesOf = ({ rows, cols, grid, codes }: Affine.Quantized): ReadonlyArray<number> => {
  const stride = packedBytes(cols, grid.bits)
  const row = new Uint8Array(cols)
  return Array.from({ length: rows }, (_, r) => {
    unpack(codes, r * stride, cols, grid.bits, row)
    return Array.from(row, (q) => (grid.symmetric ? q - 2 ** (grid.bits - 1) : q))
  }).flat()
}

const reconstruct = (q: Affine.Quantized): Float32Array => {
  const out = new Float32Array(q.rows * q.cols)
  Affine.dequantize(q, out)
  return out
}

const near = (actual: ArrayLike<number>, expected: ReadonlyArray<number>, tolerance: number) =>
  expected.forEach((value, i) => assert.closeTo(actual[i]!, value, tolerance, `at ${i}`))

describe("known answers", () => {
  const x = Float32Array.of(-1, -0.5, -0.1, 0, 0.2, 0.7, 1.3, 2)
  const table = [
    [
      grid(8),
      0.0117647,
      85,
      [0, 43, 77, 85, 102, 144, 195, 255],
      [-1, -0.494118, -0.094118, 0, 0.2, 0.694118, 1.294118, 2],
    ],
    [grid(4), 0.2, 5, [0, 3, 5, 5, 6, 9, 11, 15], [-1, -0.4, 0, 0, 0.2, 0.8, 1.2, 2]],
    [grid(3), 0.4285714, 2, [0, 1, 2, 2, 2, 4, 5, 7], [-0.857143, -0.428571, 0, 0, 0, 0.857143, 1.285714, 2.142857]],
    [grid(2), 1, 1, [0, 1, 1, 1, 1, 2, 2, 3], [-1, 0, 0, 0, 0, 1, 1, 2]],
    [
      grid(4, true),
      0.2857143,
      0,
      [-3, -2, 0, 0, 1, 2, 5, 7],
      [-0.857143, -0.571429, 0, 0, 0.285714, 0.571429, 1.428571, 2],
    ],
  ] as const
  for (const [grid, scale, zero, codes, values] of table) {
    it(`${grid.symmetric ? "symmetric" : "asymmetric"} ${grid.bits}`, () => {
      for (const range of ["compat", "fixed"] as const) {
        const q = Affine.quantize(x, 1, 8, { ...grid, range }, "channel")
        assert.deepStrictEqual(codesOf(q), [...codes])
        near(q.scales, [scale], 1e-7)
        assert.deepStrictEqual([...q.zeros], grid.symmetric ? [] : [zero])
        near(reconstruct(q), values, 1e-6)
      }
    })
  }

  it("rounds half to even", () => {
    const q = Affine.quantize(Float32Array.of(0, 0.5, 1.5, 2.5, 15), 1, 5, grid(4, false, "compat"), "channel")
    assert.deepStrictEqual(codesOf(q), [0, 0, 2, 2, 15])
  })

  it("saturates a one-sided group in compat and not in fixed", () => {
    const x = Float32Array.of(5, 5.25, 5.5, 6)
    const compat = Affine.quantize(x, 1, 4, grid(4, false, "compat"), "channel")
    near(reconstruct(compat), [1, 1, 1, 1], 1e-6)
    const fixed = Affine.quantize(x, 1, 4, grid(4), "channel")
    near(reconstruct(fixed), [4.8, 5.2, 5.6, 6], 1e-6)
  })
})

/** Values that reach every branch: normal-sized, tiny, huge, ties, exact zeros, negative zeros, one-sided rows. */
const awkward = (seed: bigint, count: number): Float32Array => {
  const random = make(seed)
  const kind = random.below(8)
  return Float32Array.from({ length: count }, () => {
    const u = random.uniform() * 2 - 1
    const mixed = kind === 7 ? random.below(7) : kind
    return [u, u * 1e-6, u * 1e30, Math.round(u * 20) / 2, u < 0 ? 0 : -0, u + 3, -1e6 - u][mixed]!
  })
}

const everyGrid = [1, 2, 3, 4, 5, 6, 7, 8].flatMap((bits) =>
  [grid(bits, false, "fixed"), grid(bits, false, "compat"), grid(bits, true)].filter((g) => g.bits > 1 || !g.symmetric),
)

describe("agrees with the slow reference", () => {
  for (const g of everyGrid) {
    it(`${g.bits} bits, ${g.symmetric ? "symmetric" : g.range}`, () => {
      for (let seed = 0n; seed < 60n; seed++) {
        const random = make(seed + 1000n)
        const size = random.below(9) + 1
        const [rows, cols] = [random.below(4) + 1, size * (random.below(5) + 1)]
        const weights = awkward(seed, rows * cols)
        for (const group of ["tensor", "channel", size] as const) {
          const expected = reference([...weights], cols, g, group)
          const actual = Affine.quantize(weights, rows, cols, g, group)
          assert.deepStrictEqual([...actual.scales], expected.scales)
          assert.deepStrictEqual([...actual.zeros], g.symmetric ? [] : expected.zeros)
          assert.deepStrictEqual(codesOf(actual), expected.codes)
          assert.deepStrictEqual([...reconstruct(actual)], expected.values)
        }
      }
    })
  }
})

describe("laws", () => {
  it("a value is at most half a step from its reconstruction, and zero stays zero", () => {
    for (const g of everyGrid.filter(({ range, symmetric }) => range === "fixed" || symmetric)) {
      for (let seed = 0n; seed < 40n; seed++) {
        const weights = awkward(seed, 64)
        weights[7] = 0
        const q = Affine.quantize(weights, 4, 16, g, 8)
        const out = reconstruct(q)
        assert.strictEqual(out[7], 0)
        // The zero point is rounded too, so an asymmetric end point may be one half step further out.
        const steps = g.symmetric ? 0.5 : 1
        weights.forEach((w, i) => {
          const scale = q.scales[i >> 3]!
          assert.isAtMost(Math.abs(w - out[i]!), scale * steps * 1.0001 + Math.abs(w) * 1e-6)
        })
      }
    }
  })

  it("quantizing a reconstruction on the same symmetric grid changes nothing", () => {
    const weights = awkward(0n, 256)
    const once = reconstruct(Affine.quantize(weights, 4, 64, grid(4, true), 32))
    assert.deepStrictEqual(reconstruct(Affine.quantize(once, 4, 64, grid(4, true), 32)), once)
  })

  it("some rows are the same as the rows of all", () => {
    for (const group of ["tensor", "channel", 5] as const) {
      const q = Affine.quantize(awkward(7n, 7 * 15), 7, 15, grid(3), group)
      const some = new Float32Array(3 * 15)
      Affine.dequantizeRows(q, 2, 5, some)
      assert.deepStrictEqual(some, reconstruct(q).slice(2 * 15, 5 * 15))
    }
  })
})

describe("refuses", () => {
  it("a value that is not finite, by its index", () => {
    for (const bad of [NaN, Infinity, -Infinity]) {
      for (const at of [0, 5, 127]) {
        const weights = new Float32Array(128).fill(0.5)
        weights[at] = bad
        for (const group of ["tensor", "channel", 16] as const) {
          assert.throws(
            () => Affine.quantize(weights, 4, 32, grid(4), group),
            Affine.NonFinite,
            `value ${at} is ${bad}`,
          )
          assert.throws(() => Affine.quantize(weights, 4, 32, grid(4, true), group), Affine.NonFinite, `value ${at}`)
        }
      }
    }
  })
  it("a range beyond float32", () => {
    const weights = Float32Array.of(1, 1, -3e38, 3e38)
    assert.throws(() => Affine.quantize(weights, 2, 2, grid(4), "channel"), Affine.RangeOverflow, "group at value 2")
  })
  it("impossible grids and groups", () => {
    const weights = new Float32Array(8)
    for (const g of [grid(0), grid(9), grid(2.5), grid(1, true)])
      assert.throws(() => Affine.quantize(weights, 1, 8, g, "channel"), RangeError, "bits")
    for (const group of [3, 0, -4, 16]) assert.throws(() => Affine.quantize(weights, 1, 8, grid(4), group), /groups of/)
    assert.throws(() => Affine.quantize(weights, 2, 8, grid(4), "channel"), /8 values are not 2 x 8/)
    assert.throws(() => Affine.quantize(new Float32Array(0), 0, 8, grid(4), "channel"), /nothing to quantize/)
  })
})
