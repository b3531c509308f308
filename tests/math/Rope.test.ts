import { assert, describe, it } from "@effect/vitest"
import * as Rope from "../../src/math/Rope.ts"

const longrope: Rope.Rope = {
  type: "longrope",
  theta: 10_000,
  short: [1, 1.1, 1.5, 2.25],
  long: [1, 3, 7.5, 16.3],
  originalContext: 64,
  scale: Math.sqrt(1 + Math.log(4) / Math.log(64)),
}

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
  {
    name: "yarn",
    rope: {
      type: "yarn",
      theta: 10_000,
      factor: 4,
      originalContext: 64,
      betaFast: 32,
      betaSlow: 1,
      truncate: true,
      scale: 0.1 * Math.log(4) + 1,
    },
    length: 10,
    frequencies: [
      1, 0.23717081546783447, 0.04999999701976776, 0.007905694656074047, 0.0024999999441206455, 0.0007905694656074047,
      0.0002500000118743628, 7.905694656074047e-5,
    ],
    cos: [-1.0374397, -0.6084288, 1.0252756, 1.1357485, 1.1383412, 1.1386006, 1.1386266, 1.1386292],
    sin: [0.4692503, 0.9624403, 0.4952646, 0.0809466, 0.025617, 0.0081014, 0.0025619, 0.0008101],
  },
  {
    name: "yarn, its ramp between other pairs and not truncated",
    rope: {
      type: "yarn",
      theta: 10_000,
      factor: 4,
      originalContext: 64,
      betaFast: 8,
      betaSlow: 2,
      truncate: false,
      scale: (0.15 * Math.log(4) + 1) / (0.05 * Math.log(4) + 1),
    },
    length: 10,
    frequencies: [
      1, 0.16058915853500366, 0.02500000037252903, 0.007905694656074047, 0.0024999999441206455, 0.0007905694656074047,
      0.0002500000118743628, 7.905694656074047e-5,
    ],
    cos: [-1.0292521, 0.1413915, 1.1011695, 1.1267849, 1.1293572, 1.1296146, 1.1296403, 1.129643],
    sin: [0.4655468, 1.1207597, 0.2520306, 0.0803077, 0.0254148, 0.0080375, 0.0025417, 0.0008038],
  },
  {
    name: "longrope, up to the original context",
    rope: longrope,
    length: 64,
    frequencies: [1, 0.09090909361839294, 0.006666666828095913, 0.0004444444493856281],
    cos: [-1.0520825, 0.7892948, 1.1526227, 1.1546913],
    sin: [0.4758734, 0.8428208, 0.0692405, 0.0046188],
  },
  {
    name: "longrope, beyond it",
    rope: longrope,
    length: 65,
    frequencies: [1, 0.03333333507180214, 0.0013333333190530539, 6.134969589766115e-5],
    cos: [-1.0520825, 1.1031276, 1.1546174, 1.1547004],
    sin: [0.4758734, 0.3412373, 0.0138561, 0.0006376],
  },
]

/** Beyond 1, float32 goes in steps of 1.2e-7. */
const TOLERANCE = 2e-7

describe("as transformers", () => {
  for (const { name, rope, length, frequencies, cos, sin } of golden) {
    it(name, () => {
      const pairs = frequencies.length
      assert.deepStrictEqual([...Rope.inverseFrequencies(rope, 2 * pairs, length)], [...frequencies])
      const { cos: cosines, sin: sines } = Rope.tables(rope, 2 * pairs, length)
      const tables = { cos: cosines.values, sin: sines.values }
      assert.strictEqual(tables.cos.length, length * pairs)
      for (let i = 0; i < pairs; i++) {
        assert.closeTo(tables.cos[9 * pairs + i]!, cos[i]!, TOLERANCE)
        assert.closeTo(tables.sin[9 * pairs + i]!, sin[i]!, TOLERANCE)
        assert.strictEqual(tables.cos[i], "scale" in rope ? Math.fround(rope.scale) : 1)
        assert.strictEqual(tables.sin[i], 0)
      }
    })
  }
})

it("an odd dim has no pairs", () => {
  assert.throws(() => Rope.tables({ type: "default", theta: 1e4 }, 7, 4), /even dim, not 7/)
})

it("longrope divides every pair", () => {
  assert.throws(() => Rope.tables(longrope, 16, 4), /4 divisors for 8 pairs/)
})
