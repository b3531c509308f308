/** What every format in `src/formats` keeps to: it decodes what it encodes, in as many bytes as it says. */
import { assert, describe, it } from "@effect/vitest"
import { effectiveBits, type Format, isFormat } from "../../src/formats/Format.ts"
import * as Random from "../../src/math/Random.ts"
import { isDescription, modules } from "../support/plugins.ts"

const formats = await modules("src/formats")

/** Parameters to try, and the largest error they may make in a group of so wide a range. A new format is added here. */
const samples: {
  readonly [format: string]: ReadonlyArray<{
    readonly params: object
    readonly group: number
    readonly error: (low: number, high: number) => number
  }>
} = {
  int: [1, 2, 3, 4, 5, 6, 7, 8].flatMap((bits) =>
    [8, 24].flatMap((group) => {
      const named = group === 24 ? "channel" : group
      const asymmetric = {
        params: { bits, group: named, symmetric: false, range: "fixed" },
        group,
        error: (low: number, high: number) => (Math.max(high, 0) - Math.min(low, 0)) / (2 ** bits - 1) / 2,
      }
      const symmetric = {
        params: { bits, group: named, symmetric: true, range: "fixed" },
        group,
        error: (low: number, high: number) => Math.max(-low, high) / (2 ** (bits - 1) - 1) / 2,
      }
      return bits === 1 ? [asymmetric] : [asymmetric, symmetric]
    }),
  ),
}

const random = Random.make(5n)
const shape = { rows: 7, cols: 24 }
const weights = Float32Array.from({ length: shape.rows * shape.cols }, (_, i) =>
  i < shape.cols ? 0 : (random.uniform() - 0.3) * 10 ** (Math.floor(i / shape.cols) - 4),
)

describe("formats", () => {
  it("all have samples", () =>
    assert.deepStrictEqual(
      formats.map(({ name }) => name),
      Object.keys(samples).toSorted(),
    ))
  for (const { name, value } of formats) {
    const format = value as Format<any>
    it(`${name} has the shape of a format`, () => {
      assert.isTrue(isFormat(value))
      assert.isTrue(isDescription(format.description), format.description)
    })
    for (const { error, group, params } of samples[name] ?? []) {
      it(`${name} ${JSON.stringify(params)}`, () => {
        const encoded = format.encode(weights, shape, params)
        const sizes = format.sizes(shape, params)
        for (const part of ["codes", "scales", "zeros"] as const)
          assert.strictEqual(encoded[part].length, sizes[part], part)
        const bytes = encoded.codes.length + encoded.scales.length + encoded.zeros.length
        assert.strictEqual(effectiveBits(format, shape, params), (8 * bytes) / weights.length)

        const whole = new Float32Array(weights.length)
        format.decodeRows(encoded, shape, params, 0, shape.rows, whole)
        for (let start = 0; start < weights.length; start += group) {
          const part = weights.subarray(start, start + group)
          const most = Math.max(error(Math.min(...part), Math.max(...part)), 1e-5)
          part.forEach((x, i) => assert.isAtMost(Math.abs(x - whole[start + i]!), most * 1.0001, `weight ${start + i}`))
        }
        // Any rows alone are the same values.
        for (const [first, last] of [
          [0, 0],
          [2, 5],
          [6, 7],
        ] as const) {
          const some = new Float32Array((last - first) * shape.cols)
          format.decodeRows(encoded, shape, params, first, last, some)
          assert.deepStrictEqual(some, whole.slice(first * shape.cols, last * shape.cols))
        }
        // What has been decoded is on the grid: encoding it again changes nothing it can see.
        assert.deepStrictEqual(format.encode(weights, shape, params), encoded)
        const broken = weights.slice()
        broken[30] = NaN
        assert.throws(() => format.encode(broken, shape, params), /30/)
      })
    }
  }
})
