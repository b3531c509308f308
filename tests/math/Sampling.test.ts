import { assert, describe, it } from "@effect/vitest"
import { make } from "../../src/math/Random.ts"
import { greedy, sample, type Settings } from "../../src/math/Sampling.ts"

const all: Settings = { temperature: 1, topK: 0, topP: 1 }
const logits = Float32Array.from([1, 4, 2, 4, 3], Math.fround)

/** How often each token is drawn. */
const shares = (logits: Float32Array, settings: Settings): ReadonlyArray<number> => {
  const random = make(17n)
  const counts = new Float64Array(logits.length)
  for (let i = 0; i < 40_000; i++) counts[sample(logits, settings, random)]!++
  return Array.from(counts, (n) => n / 40_000)
}
const softmax = (values: ReadonlyArray<number>): ReadonlyArray<number> => {
  const weights = values.map(Math.exp)
  const total = weights.reduce((a, b) => a + b, 0)
  return weights.map((w) => w / total)
}
const near = (actual: ReadonlyArray<number>, expected: ReadonlyArray<number>) =>
  expected.forEach((share, token) => {
    if (share === 0) assert.strictEqual(actual[token], 0, `token ${token}`)
    else assert.closeTo(actual[token]!, share, 0.01, `token ${token}`)
  })

describe("greedy", () => {
  it("takes the largest, of equals the lowest", () => {
    assert.strictEqual(greedy(logits), 1)
    assert.strictEqual(greedy(Float32Array.of(-3, -1, -2)), 1)
    assert.strictEqual(greedy(Float32Array.of(-Infinity, -5)), 1)
    assert.strictEqual(sample(logits, { ...all, temperature: 0 }, make(0n)), 1)
  })
  it("refuses what has no order", () => {
    assert.throws(() => greedy(Float32Array.of(1, NaN, 3)), /logit 1 is NaN/)
    assert.throws(() => greedy(Float32Array.of(NaN, 2)), /logit 0 is NaN/)
    assert.throws(() => greedy(Float32Array.of(1, Infinity)), /largest logit is Infinity/)
    assert.throws(() => greedy(Float32Array.of(-Infinity, -Infinity)), /largest logit is -Infinity/)
  })
})

describe("sample", () => {
  it("draws from softmax", () => near(shares(logits, all), softmax([1, 4, 2, 4, 3])))
  it("at a temperature", () => near(shares(logits, { ...all, temperature: 2 }), softmax([0.5, 2, 1, 2, 1.5])))
  it("cut to the k likeliest", () =>
    near(shares(logits, { ...all, topK: 3 }), softmax([-Infinity, 4, -Infinity, 4, 3])))
  it("where k cuts between equals, the lower token stays", () =>
    near(shares(logits, { ...all, topK: 1 }), [0, 1, 0, 0, 0]))
  it("cut to the nucleus", () => {
    // Shares of the likeliest: 0.39, 0.39, 0.14, …
    near(shares(logits, { ...all, topP: 0.3 }), [0, 1, 0, 0, 0])
    near(shares(logits, { ...all, topP: 0.7 }), [0, 0.5, 0, 0.5, 0])
    near(shares(logits, { ...all, topP: 0.9 }), softmax([-Infinity, 4, -Infinity, 4, 3]))
  })
  it("takes the nucleus of the k likeliest", () =>
    near(shares(logits, { ...all, topK: 2, topP: 0.6 }), [0, 0.5, 0, 0.5, 0]))
  it("never draws what was masked", () => near(shares(Float32Array.of(-Infinity, 0, -Infinity), all), [0, 1, 0]))
  it("takes one draw, none when greedy", () => {
    const [a, b] = [make(4n), make(4n)]
    sample(logits, all, a)
    b.uniform()
    assert.strictEqual(a.uint32(), b.uint32())
    sample(logits, { ...all, temperature: 0 }, a)
    assert.strictEqual(a.uint32(), b.uint32())
  })
})
