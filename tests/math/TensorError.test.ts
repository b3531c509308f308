import { assert, it } from "@effect/vitest"
import * as TensorError from "../../src/math/TensorError.ts"

const of = (a: ReadonlyArray<number>, b: ReadonlyArray<number>) =>
  TensorError.summarize(TensorError.add(TensorError.NOTHING, Float32Array.from(a), Float32Array.from(b)))

it("known values", () => {
  const { relativeMse, sqnr, max } = of([3, 4, 0], [3, 3.5, 0])
  assert.strictEqual(relativeMse, 0.25 / 25)
  assert.closeTo(sqnr, 20, 1e-12)
  assert.strictEqual(max, 0.5)
})

it("without noise, and with nothing else", () => {
  assert.deepStrictEqual(of([0, 0], [0, 0]), { relativeMse: 0, sqnr: Infinity, max: 0 })
  assert.deepStrictEqual(of([1, 2], [1, 2]), { relativeMse: 0, sqnr: Infinity, max: 0 })
  assert.deepStrictEqual(of([0, 0], [1, 0]), { relativeMse: Infinity, sqnr: -Infinity, max: 1 })
})

it("does not depend on how the tensor is cut", () => {
  const a = Float32Array.from({ length: 1000 }, (_, i) => Math.sin(i) * 10 ** (i % 7))
  const b = a.map((x, i) => x * (1 + Math.cos(i) / 50))
  const whole = TensorError.add(TensorError.NOTHING, a, b)
  for (const size of [1, 7, 333]) {
    let sums = TensorError.NOTHING
    for (let at = 0; at < a.length; at += size)
      sums = TensorError.add(sums, a.subarray(at, at + size), b.subarray(at, at + size))
    assert.deepStrictEqual(sums, whole)
  }
})

it("refuses tensors of different sizes", () => {
  assert.throws(() => of([1, 2], [1]), /2 values cannot be compared with 1/)
})
