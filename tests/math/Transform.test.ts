import { assert, describe, it } from "@effect/vitest"
import { apply } from "../../src/math/Transform.ts"

const counted = (length: number) => Float32Array.from({ length }, (_, i) => i)
/** Elements of a row-major array in the order of other axes. */
const reordered = (values: Float32Array, shape: ReadonlyArray<number>, axes: ReadonlyArray<number>): Float32Array => {
  const strides = shape.map((_, i) => shape.slice(i + 1).reduce((product, n) => product * n, 1))
  const out: Array<number> = []
  const visit = (depth: number, at: number): void => {
    if (depth === axes.length) return void out.push(values[at]!)
    for (let i = 0; i < shape[axes[depth]!]!; i++) visit(depth + 1, at + i * strides[axes[depth]!]!)
  }
  visit(0, 0)
  return Float32Array.from(out)
}

describe("transforms", () => {
  for (const [heads, dim, columns] of [
    [1, 2, 1],
    [3, 8, 5],
    [4, 6, 1],
  ] as const) {
    it(`unpermute undoes the converter: ${heads} heads of ${dim}, ${columns} columns`, () => {
      const original = counted(heads * dim * columns)
      // weights.reshape(heads, 2, D / 2, columns).swapaxes(1, 2), as the converter writes it.
      const stored = Float32Array.from(reordered(original, [heads, 2, dim / 2, columns], [0, 2, 1, 3]))
      assert.deepStrictEqual(apply({ kind: "unpermute", heads }, stored, heads * dim), original)
    })
  }

  it("transpose turns [columns, rows] round", () => {
    const original = counted(15)
    const stored = Float32Array.from(reordered(original, [3, 5], [1, 0]))
    assert.deepStrictEqual(apply({ kind: "transpose", columns: 5 }, stored, 3), original)
  })

  it("regroup puts each group's share of every part together", () => {
    // Wanted: [groups, 3, dim, columns]; stored: the parts one after the other.
    const [groups, dim, columns] = [4, 2, 3]
    const original = counted(groups * 3 * dim * columns)
    const stored = Float32Array.from(reordered(original, [groups, 3, dim, columns], [1, 0, 2, 3]))
    assert.deepStrictEqual(apply({ kind: "regroup", groups, parts: [1, 1, 1] }, stored, groups * 3 * dim), original)
    // Two queries, a key and a value in each of two groups, a single channel and column.
    assert.deepStrictEqual(
      [...apply({ kind: "regroup", groups: 2, parts: [2, 1, 1] }, counted(8), 8)],
      [0, 1, 4, 6, 2, 3, 5, 7],
    )
  })

  it("strided gathers a view", () => {
    const shape = [2, 3]
    assert.deepStrictEqual([...apply({ kind: "strided", shape, strides: [1, 2] }, counted(6), 2)], [0, 2, 4, 1, 3, 5])
    assert.deepStrictEqual([...apply({ kind: "strided", shape, strides: [0, 1] }, counted(3), 2)], [0, 1, 2, 0, 1, 2])
    assert.deepStrictEqual([...apply({ kind: "strided", shape: [], strides: [] }, counted(1), 1)], [0])
  })

  it("add and logNegated undo what the converter computes", () => {
    assert.deepStrictEqual([...apply({ kind: "add", value: -1 }, Float32Array.of(1.5, 0.25), 2)], [0.5, -0.75])
    assert.closeTo(apply({ kind: "logNegated" }, Float32Array.of(-Math.exp(0.5)), 1)[0]!, 0.5, 1e-7)
  })
})
