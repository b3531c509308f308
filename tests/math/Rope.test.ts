import { assert, describe, it } from "@effect/vitest"
import * as Rope from "../../src/math/Rope.ts"

/** Inverse frequencies of transformers 5.23, and cos and sin of position 9 to seven digits. */
const golden: ReadonlyArray<{
  readonly name: string
  readonly rope: Rope.Rope
  readonly length: number
  readonly frequencies: ReadonlyArray<number>
  readonly cos: ReadonlyArray<number>
  readonly sin: ReadonlyArray<number>
}> = [
  {
    name: "default",
    rope: { type: "default", theta: 500_000 },
    length: 10,
    frequencies: [1, 0.03760603070259094, 0.001414213445968926, 5.3182957344688475e-5],
    cos: [-0.9111302, 0.943269, 0.999919, 0.9999999],
    sin: [0.4121185, 0.3320295, 0.0127276, 0.0004786],
  },
  {
    name: "linear",
    rope: { type: "linear", theta: 10_000, factor: 2.5 },
    length: 10,
    frequencies: [0.4000000059604645, 0.03999999910593033, 0.003999999724328518, 0.0004000000189989805],
    cos: [-0.8967584, 0.9358968, 0.999352, 0.9999935],
    sin: [-0.4425206, 0.3522742, 0.0359922, 0.0036],
  },
  {
    name: "dynamic, within the context",
    rope: { type: "dynamic", theta: 10_000, factor: 4, context: 64 },
    length: 10,
    frequencies: [1, 0.10000000149011612, 0.009999999776482582, 0.0010000000474974513],
    cos: [-0.9111302, 0.6216099, 0.9959527, 0.9999595],
    sin: [0.4121185, 0.7833269, 0.0898785, 0.0089999],
  },
  {
    name: "dynamic, beyond it",
    rope: { type: "dynamic", theta: 10_000, factor: 4, context: 64 },
    length: 100,
    frequencies: [1, 0.06751064211130142, 0.0045576863922178745, 0.00030769233126193285],
    cos: [-0.9111302, 0.8210229, 0.9991588, 0.9999962],
    sin: [0.4121185, 0.5708952, 0.0410077, 0.0027692],
  },
  {
    name: "llama3",
    rope: {
      type: "llama3",
      theta: 500_000,
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContext: 512,
    },
    length: 10,
    frequencies: [
      1, 0.193922758102417, 0.02734413370490074, 0.0009115831344388425, 0.00017677668074611574, 3.428102354519069e-5,
      6.647869668086059e-6, 1.289173155782919e-6,
    ],
    cos: [-0.9111302, -0.1736241, 0.9698706, 0.9999663, 0.9999987, 0.9999999, 1, 1],
    sin: [0.4121185, 0.984812, 0.2436206, 0.0082042, 0.001591, 0.0003085, 5.98e-5, 1.16e-5],
  },
]

describe("as transformers", () => {
  for (const { name, rope, length, frequencies, cos, sin } of golden) {
    it(name, () => {
      const pairs = frequencies.length
      assert.deepStrictEqual([...Rope.inverseFrequencies(rope, 2 * pairs, length)], [...frequencies])
      const { cos: cosines, sin: sines } = Rope.tables(rope, 2 * pairs, length)
      const tables = { cos: cosines.values, sin: sines.values }
      assert.strictEqual(tables.cos.length, length * pairs)
      for (let i = 0; i < pairs; i++) {
        assert.closeTo(tables.cos[9 * pairs + i]!, cos[i]!, 1e-7)
        assert.closeTo(tables.sin[9 * pairs + i]!, sin[i]!, 1e-7)
        assert.strictEqual(tables.cos[i], 1)
        assert.strictEqual(tables.sin[i], 0)
      }
    })
  }
})

it("an odd dim has no pairs", () => {
  assert.throws(() => Rope.tables({ type: "default", theta: 1e4 }, 7, 4), /even dim, not 7/)
})
