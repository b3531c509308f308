import { assert, describe, it } from "@effect/vitest"
import { effectiveBits, isFormat } from "../../src/formats/Format.ts"
import int, { type Params } from "../../src/formats/int.ts"
import { dequantize, quantize } from "../../src/math/Affine.ts"
import { make } from "../../src/math/Random.ts"

const random = make(21n)
const shape = { rows: 6, cols: 30 }
const weights = Float32Array.from({ length: 180 }, () => random.uniform() - 0.4)
const base: Params = { bits: 4, symmetric: false, range: "fixed", group: 10 }
const settings: ReadonlyArray<Params> = [1, 2, 3, 4, 5, 6, 7, 8].flatMap((bits) =>
  (["tensor", "channel", 10] as const).flatMap((group) => [
    { ...base, bits, group },
    { ...base, bits: Math.max(bits, 2), group, symmetric: true },
  ]),
)

describe("int", () => {
  it("is a format", () => assert.isTrue(isFormat(int)))

  it("stores what it says it will", () => {
    for (const params of settings) {
      const { codes, scales, zeros } = int.encode(weights, shape, params)
      const sizes = { codes: codes.length, scales: scales.length, zeros: zeros.length }
      assert.deepStrictEqual(int.sizes(shape, params), sizes)
    }
  })

  it("decodes to the quantizer's reconstruction, from bytes that begin anywhere", () => {
    for (const params of settings) {
      const { group, ...grid } = params
      const expected = new Float32Array(180)
      dequantize(quantize(weights, 6, 30, grid, group), expected)
      const { codes, scales, zeros } = int.encode(weights, shape, params)
      const shifted = new Uint8Array(scales.length + 1)
      shifted.set(scales, 1)
      for (const part of [scales, shifted.subarray(1)]) {
        const out = new Float32Array(180)
        int.decodeRows({ codes, scales: part, zeros }, shape, params, 0, 6, out)
        assert.deepStrictEqual(out, expected)
        const some = new Float32Array(60)
        int.decodeRows({ codes, scales: part, zeros }, shape, params, 3, 5, some)
        assert.deepStrictEqual(some, expected.slice(90, 150))
      }
    }
  })
})

const bits = (params: Partial<Params>, rows: number, cols: number) =>
  effectiveBits(int, { rows, cols }, { ...base, ...params })

describe("effective bits", () => {
  it("count codes, float32 scales and one byte per zero point", () => {
    assert.strictEqual(bits({ group: 128 }, 256, 512), 4 + 40 / 128)
    assert.strictEqual(bits({ group: 128, symmetric: true }, 256, 512), 4 + 32 / 128)
    assert.strictEqual(bits({ bits: 8, group: "channel" }, 256, 512), 8 + 40 / 512)
    assert.strictEqual(bits({ bits: 3, group: "tensor" }, 256, 512), 3 + 40 / (256 * 512))
  })
  it("count the padding of rows", () =>
    assert.strictEqual(bits({ bits: 3, group: "tensor" }, 2, 5), ((2 * 2 + 5) * 8) / 10))
})
