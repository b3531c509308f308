import { assert, it } from "@effect/vitest"
import { make } from "../../src/math/Random.ts"

it("is xoshiro128** seeded by SplitMix64", () => {
  const random = make(42n)
  const expected = [1776835114, 4165204688, 17111135, 2317295270, 2792088233, 2554630222]
  assert.deepStrictEqual(Array.from({ length: 6 }, random.uint32), expected)
})

const draw = (seed: bigint) => Array.from({ length: 8 }, make(seed).uint32)

it("another seed, another sequence; the same seed, the same", () => {
  assert.deepStrictEqual(draw(7n), draw(7n))
  assert.notDeepEqual(draw(7n), draw(8n))
  assert.notDeepEqual(draw(7n), draw(7n + (1n << 40n)))
  assert.deepStrictEqual(draw(-1n), draw(0xffff_ffff_ffff_ffffn))
})

it("covers [0, 1) evenly", () => {
  const random = make(1n)
  const bins = new Float64Array(10)
  for (let i = 0; i < 100_000; i++) bins[Math.floor(random.uniform() * 10)]!++
  for (const count of bins) assert.closeTo(count, 10_000, 500)
})

it("covers integers below a bound evenly", () => {
  const random = make(2n)
  const bins = new Float64Array(7)
  for (let i = 0; i < 70_000; i++) bins[random.below(7)]!++
  for (const count of bins) assert.closeTo(count, 10_000, 500)
  assert.strictEqual(random.below(1), 0)
  const [draws, bounded] = [make(42n), make(42n)]
  for (let i = 0; i < 6; i++) assert.strictEqual(bounded.below(10), draws.uint32() % 10)
  // A quarter of all draws is beyond the last full multiple and is drawn again.
  const rejected = make(42n)
  const kept = Array.from({ length: 300 }, () => rejected.below(3 * 2 ** 30))
  assert.closeTo(kept.filter((x) => x < 2 ** 30).length, 100, 30)
  for (const bound of [0, -1, 1.5, 2 ** 32 + 1]) assert.throws(() => random.below(bound), RangeError)
})
