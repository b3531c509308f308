import { assert, describe, it } from "@effect/vitest"
import * as Statistics from "../../src/math/Statistics.ts"

/** Rows of [channels] -> their sums, as a graph would reduce them. */
const batch = (rows: ReadonlyArray<ReadonlyArray<number>>): Statistics.Batch => {
  const column = (c: number) => rows.map((row) => row[c]!)
  const each = (f: (values: ReadonlyArray<number>) => number) => Float64Array.from(rows[0]!, (_, c) => f(column(c)))
  const power = (k: number) => each((values) => values.reduce((sum, x) => sum + x ** k, 0))
  return {
    count: rows.length,
    sum: power(1),
    sum2: power(2),
    sum3: power(3),
    sum4: power(4),
    min: each((values) => Math.min(...values)),
    max: each((values) => Math.max(...values)),
    absmax: each((values) => Math.max(...values.map(Math.abs))),
  }
}

const collect = (channels: number, ...batches: ReadonlyArray<Statistics.Batch>) =>
  batches.reduce(Statistics.add, Statistics.empty(channels))

/** NumPy on [0.5, -1, 2, 7, -3, 0.25]. */
const known = {
  min: -3,
  max: 7,
  absmax: 7,
  mean: 0.9583333333333334,
  meanSquare: 10.552083333333334,
  std: 3.1038170944106156,
  kurtosis: 2.8626483413339976,
}
const near = (actual: Statistics.Moments, expected: Statistics.Moments) => {
  for (const key of Object.keys(expected) as Array<keyof Statistics.Moments>)
    assert.closeTo(actual[key], expected[key], Math.abs(expected[key]) * 1e-12, key)
}

describe("moments", () => {
  it("of one channel, in one batch or several", () => {
    near(Statistics.perChannel(collect(1, batch([[0.5], [-1], [2], [7], [-3], [0.25]])))[0]!, known)
    near(Statistics.perChannel(collect(1, batch([[0.5], [-1]]), batch([[2], [7], [-3], [0.25]])))[0]!, known)
  })
  it("of all channels as one distribution", () => {
    const sums = collect(3, batch([[0.5, -1, 2]]), batch([[7, -3, 0.25]]))
    near(Statistics.overall(sums), known)
    assert.deepStrictEqual(
      Statistics.perChannel(sums).map(({ min, max, absmax, mean }) => [min, max, absmax, mean]),
      [
        [0.5, 7, 7, 3.75],
        [-3, -1, 3, -2],
        [0.25, 2, 2, 1.125],
      ],
    )
  })
  it("of what does not vary", () => {
    for (const x of [0, 0.1, -1234.5]) {
      const { std, kurtosis, mean } = Statistics.overall(
        collect(
          2,
          batch([
            [x, x],
            [x, x],
            [x, x],
          ]),
        ),
      )
      assert.closeTo(mean, x, Math.abs(x) * 1e-14)
      assert.deepStrictEqual([std, kurtosis], [0, 0])
    }
  })
})

it("an outlier shows as kurtosis: E[z^4] of one 1 among n values is about n", () => {
  const rows = Array.from({ length: 1000 }, (_, i) => [i === 7 ? 1 : 0])
  assert.closeTo(Statistics.overall(collect(1, batch(rows))).kurtosis, 998, 0.01)
})

it("refuses batches of other channels", () => {
  assert.throws(() => collect(2, batch([[1]])), /1 channels do not add to 2/)
})
