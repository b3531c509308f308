import { assert, describe, it } from "@effect/vitest"
import * as Intervals from "../../src/math/Intervals.ts"
import { make } from "../../src/math/Random.ts"

const values = [3, 1, 4, 1, 5, 9, 2, 6]

describe("mean", () => {
  it("and its standard error", () => {
    assert.strictEqual(Intervals.mean(values), 3.875)
    assert.closeTo(Intervals.standardError([1, 2, 3, 4]), Math.sqrt(5 / 3 / 4), 1e-15)
    assert.isNaN(Intervals.standardError([1]))
  })
  it("of nothing is an error", () => {
    assert.throws(() => Intervals.mean([]), /no values/)
    assert.throws(() => Intervals.quantile([], 0.5), /no values/)
    assert.throws(() => Intervals.bootstrap([], 10, 0.95, make(0n)), /no values/)
  })
})

it("quantiles as NumPy's", () => {
  const shares = [0, 0.25, 0.5, 0.9, 0.99, 1]
  const expected = [1, 1.75, 3.5, 6.9, 8.79, 9]
  shares.forEach((q, i) => assert.closeTo(Intervals.quantile(values, q), expected[i]!, 1e-12))
  assert.strictEqual(Intervals.quantile([Infinity, Infinity], 0.5), Infinity)
  assert.deepStrictEqual(values, [3, 1, 4, 1, 5, 9, 2, 6])
  assert.throws(() => Intervals.quantile(values, 1.1), /not within 0 to 1/)
})

describe("bootstrap", () => {
  it("is the same for the same seed", () => {
    const a = Intervals.bootstrap(values, 500, 0.95, make(5n))
    assert.deepStrictEqual(a, Intervals.bootstrap(values, 500, 0.95, make(5n)))
    assert.notDeepEqual(a, Intervals.bootstrap(values, 500, 0.95, make(6n)))
  })
  it("agrees with the normal interval where that holds", () => {
    const random = make(9n)
    const many = Array.from({ length: 2000 }, random.uniform)
    const { low, high } = Intervals.bootstrap(many, 2000, 0.95, random)
    const half = 1.96 * Intervals.standardError(many)
    assert.closeTo(low, Intervals.mean(many) - half, half / 10)
    assert.closeTo(high, Intervals.mean(many) + half, half / 10)
  })
  it("holds the true mean about as often as it says", () => {
    const random = make(11n)
    let held = 0
    for (let trial = 0; trial < 400; trial++) {
      const sample = Array.from({ length: 60 }, random.uniform)
      const { low, high } = Intervals.bootstrap(sample, 300, 0.9, random)
      if (low <= 0.5 && 0.5 <= high) held++
    }
    assert.closeTo(held / 400, 0.9, 0.05)
  })
  it("of a constant is that constant", () => {
    assert.deepStrictEqual(Intervals.bootstrap([2, 2, 2], 50, 0.95, make(0n)), { low: 2, high: 2 })
  })
})

describe("wilson", () => {
  it("known values", () => {
    const { low, high } = Intervals.wilson(8, 10, 1.96)
    assert.closeTo(low, 0.49015684672072335, 1e-12)
    assert.closeTo(high, 0.9433190520193067, 1e-12)
  })
  it("stays within 0 and 1 and never vanishes", () => {
    const none = Intervals.wilson(0, 20, 1.96)
    const all = Intervals.wilson(20, 20, 1.96)
    assert.strictEqual(none.low, 0)
    assert.isAbove(none.high, 0.1)
    assert.isBelow(all.low, 0.9)
    assert.closeTo(all.high, 1, 1e-12)
    assert.isAtMost(all.high, 1)
    assert.throws(() => Intervals.wilson(3, 2, 1.96), /3 of 2/)
  })
})
