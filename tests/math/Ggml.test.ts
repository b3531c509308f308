import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { blockOf, dequantize, DTYPES, firstNonFinite, isWeight } from "../../src/math/Ggml.ts"

const golden = (name: string) => readFileSync(new URL(`../golden/gguf/${name}`, import.meta.url))
const blocks = golden("blocks.bin")
const values = golden("values.bin")
const cases: ReadonlyArray<{ dtype: string; offset: number; bytes: number; first: number; elements: number }> =
  JSON.parse(golden("index.json").toString())

const bits = (floats: Float32Array) => new Uint32Array(floats.buffer, floats.byteOffset, floats.length)
const floatsOf = ({ first, elements }: (typeof cases)[number]) =>
  new Float32Array(Uint8Array.from(values.subarray(first * 4, (first + elements) * 4)).buffer)

describe("dequantize is ggml's, bit for bit", () => {
  it("of every type", () =>
    assert.deepStrictEqual(
      [...new Set(cases.map(({ dtype }) => dtype))].toSorted(),
      DTYPES.filter(isWeight).toSorted(),
    ))
  for (const [n, golden] of cases.entries()) {
    const { bytes, dtype, elements, offset } = golden
    it(`${dtype}, case ${n}`, () => {
      if (!isWeight(dtype)) return assert.fail(dtype)
      const stored = blocks.subarray(offset, offset + bytes)
      const out = new Float32Array(elements + 1).fill(7)
      dequantize(dtype, stored, out)
      const expected = floatsOf(golden)
      // NaN has many spellings: only that it is one counts.
      const differ = expected.findIndex((value, i) =>
        Number.isNaN(value) ? !Number.isNaN(out[i]!) : bits(out)[i] !== bits(expected)[i],
      )
      assert.deepStrictEqual([differ, out[elements]], [-1, 7])
      // The same from an odd address.
      const odd = new Uint8Array(bytes + 1)
      odd.set(stored, 1)
      const again = new Float32Array(elements)
      dequantize(dtype, odd.subarray(1), again)
      assert.deepStrictEqual(bits(again), bits(out.subarray(0, elements).slice()))
    })
  }
})

describe("sizes", () => {
  it("of blocks", () => {
    assert.deepStrictEqual(blockOf("Q6_K"), { elements: 256, bytes: 210 })
    assert.deepStrictEqual(blockOf("I64"), { elements: 1, bytes: 8 })
    assert.isUndefined(blockOf("toString"))
    assert.isFalse(isWeight("I8") || isWeight("F64") || isWeight("toString"))
  })
  it("that are no whole blocks, or too many, are refused", () => {
    for (const dtype of DTYPES.filter(isWeight)) {
      const { bytes, elements } = blockOf(dtype)!
      assert.throws(() => dequantize(dtype, new Uint8Array(bytes + 1), new Float32Array(999)), RangeError, dtype)
      assert.throws(() => dequantize(dtype, new Uint8Array(bytes), new Float32Array(elements - 1)), /do not fit/)
    }
  })
  it("of nothing", () => dequantize("Q4_K", new Uint8Array(0), new Float32Array(0)))
})

describe("firstNonFinite", () => {
  it("is -1 for finite blocks, whose values are finite", () => {
    for (const golden of cases.filter(({ dtype }) => dtype.includes("Q"))) {
      const { bytes, dtype, offset } = golden
      if (!isWeight(dtype)) return assert.fail(dtype)
      assert.strictEqual(firstNonFinite(dtype, blocks.subarray(offset, offset + bytes)), -1, dtype)
      assert.isTrue(floatsOf(golden).every(Number.isFinite))
    }
  })
  it("finds every scale", () => {
    const scales = {
      Q4_0: [0],
      Q4_1: [0, 2],
      Q5_0: [0],
      Q5_1: [0, 2],
      Q8_0: [0],
      IQ4_NL: [0],
      Q2_K: [80, 82],
      Q3_K: [108],
      Q4_K: [0, 2],
      Q5_K: [0, 2],
      Q6_K: [208],
    } as const
    for (const [dtype, offsets] of Object.entries(scales)) {
      if (!isWeight(dtype)) return assert.fail(dtype)
      const { bytes, elements } = blockOf(dtype)!
      for (const at of offsets) {
        for (const [low, high] of [
          [0, 0x7c],
          [0, 0xfc],
          [1, 0x7e],
        ] as const) {
          const stored = new Uint8Array(3 * bytes)
          stored.set([low, high], 2 * bytes + at)
          const out = new Float32Array(3 * elements)
          dequantize(dtype, stored, out)
          assert.isFalse(out.every(Number.isFinite), `${dtype} ${at}`)
          assert.strictEqual(firstNonFinite(dtype, stored), 2 * elements, `${dtype} ${at}`)
        }
      }
    }
  })
  it("of Q8_K and of plain types", () => {
    const stored = new Uint8Array(2 * 292)
    const scale = new DataView(stored.buffer)
    for (const [value, found] of [
      [NaN, 256],
      [-Infinity, 256],
      [3e38, 256],
      [2e36, -1],
    ] as const) {
      scale.setFloat32(292, value, true)
      assert.strictEqual(firstNonFinite("Q8_K", stored), found, String(value))
    }
    assert.strictEqual(firstNonFinite("F16", Uint8Array.of(0, 0, 0, 0, 0, 0x7c)), 2)
  })
})
