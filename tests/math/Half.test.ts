import { assert, describe, it } from "@effect/vitest"
import * as Half from "../../src/math/Half.ts"
import { make } from "../../src/math/Random.ts"

const everyHalf = Uint16Array.from({ length: 65_536 }, (_, i) => i)
const isFinite16 = (half: number) => (half & 0x7c00) !== 0x7c00
const bytesOf = ({ buffer, byteOffset, byteLength }: Uint16Array | Float32Array) =>
  new Uint8Array(buffer, byteOffset, byteLength)

describe("F16", () => {
  it("known values", () => {
    const out = new Float32Array(8)
    Half.fromF16(Uint16Array.of(0x3c00, 0xc100, 0x7bff, 0x0001, 0x0400, 0x7c00, 0xfc00, 0x7e00), out)
    assert.deepStrictEqual([...out], [1, -2.5, 65_504, 2 ** -24, 2 ** -14, Infinity, -Infinity, NaN])
  })

  it("narrows as NumPy does", () => {
    const table = [
      [1, 0x3c00],
      [-2.5, 0xc100],
      [65_504, 0x7bff],
      [65_519.996, 0x7bff],
      [65_520, 0x7c00],
      [-Infinity, 0xfc00],
      [1e-8, 0x0000],
      [6e-8, 0x0001],
      [2 ** -25, 0x0000],
      [2 ** -25 * 3, 0x0002],
      [6.0975552e-5, 0x03ff],
      [6.1035e-5, 0x0400],
      [0.1, 0x2e66],
      [1 / 3, 0x3555],
      [1.00048828125, 0x3c00],
      [1.00146484375, 0x3c02],
      [-0, 0x8000],
    ] as const
    const out = new Uint16Array(table.length)
    Half.toF16(
      Float32Array.from(table, ([value]) => value),
      out,
    )
    assert.deepStrictEqual(
      [...out],
      table.map(([, half]) => half),
    )
  })

  it("widening and narrowing every half gives it back", () => {
    const wide = new Float32Array(65_536)
    const back = new Uint16Array(65_536)
    Half.fromF16(everyHalf, wide)
    Half.toF16(wide, back)
    everyHalf.forEach((half, i) => {
      if (isFinite16(half) || (half & 0x3ff) === 0) assert.strictEqual(back[i], half)
      else assert.isTrue(Number.isNaN(wide[i]) && !isFinite16(back[i]!))
    })
  })

  it("narrows to the nearest half, to the even one between two", () => {
    const wide = new Float32Array(65_536)
    Half.fromF16(everyHalf, wide)
    const random = make(3n)
    for (let i = 0; i < 20_000; i++) {
      const lower = random.below(0x7bff)
      const [a, b] = [wide[lower]!, wide[lower + 1]!]
      const share = i % 4 === 0 ? 0.5 : random.uniform()
      const x = Math.fround(a + (b - a) * share)
      const out = new Uint16Array(1)
      Half.toF16(Float32Array.of(x), out)
      const expected = x - a < b - x ? lower : x - a > b - x ? lower + 1 : lower + (lower & 1)
      assert.strictEqual(out[0], expected, `${x} between ${a} and ${b}`)
    }
  })
})

describe("BF16", () => {
  it("is the upper half of float32", () => {
    const out = new Float32Array(5)
    Half.fromBF16(Uint16Array.of(0x3f80, 0xc020, 0x7f7f, 0x7f80, 0x8000), out)
    assert.deepStrictEqual([...out], [1, -2.5, 3.3895313892515355e38, Infinity, -0])
  })
  it("fills only its part of the output", () => {
    const out = new Float32Array(4).fill(9)
    Half.fromBF16(Uint16Array.of(0x3f80), out.subarray(1, 3))
    assert.deepStrictEqual([...out], [9, 1, 9, 9])
  })
})

/** The bits of the largest finite number. */
const LARGEST = { F32: 0x7f7f_ffff, F16: 0x7bff, BF16: 0x7f7f }

describe("bytes", () => {
  const cases = [
    ["F32", bytesOf(Float32Array.of(1.5, -2))],
    ["F16", bytesOf(Uint16Array.of(0x3e00, 0xc000))],
    ["BF16", bytesOf(Uint16Array.of(0x3fc0, 0xc000))],
  ] as const
  for (const [dtype, bytes] of cases) {
    it(`${dtype}, wherever they begin`, () => {
      for (const shift of [0, 1, 2, 3]) {
        const moved = new Uint8Array(bytes.length + shift)
        moved.set(bytes, shift)
        const out = new Float32Array(2)
        Half.toFloat32(dtype, moved.subarray(shift), out)
        assert.deepStrictEqual([...out], [1.5, -2])
        assert.strictEqual(Half.firstNonFinite(dtype, moved.subarray(shift)), -1)
      }
    })
  }
  it("the first that is not finite", () => {
    const patterns = {
      F32: [0x7f80_0000, 0xff80_0000, 0x7fc0_0000],
      F16: [0x7c00, 0xfc00, 0x7e01],
      BF16: [0x7f80, 0xff80, 0x7fc0],
    }
    for (const [dtype, bad] of Object.entries(patterns) as Array<[Half.Dtype, Array<number>]>) {
      for (const pattern of bad) {
        const words = dtype === "F32" ? new Uint32Array(20) : new Uint16Array(20)
        words[13] = pattern
        words[17] = pattern
        assert.strictEqual(Half.firstNonFinite(dtype, new Uint8Array(words.buffer)), 13)
        words[13] = LARGEST[dtype]
        assert.strictEqual(Half.firstNonFinite(dtype, new Uint8Array(words.buffer)), 17)
      }
    }
  })
})
