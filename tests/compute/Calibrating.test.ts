/** Statistics of every linear's input and of K and V, against a slow model in double. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Calibrating from "../../src/compute/Calibrating.ts"
import type * as Model from "../../src/compute/Model.ts"
import { Pool } from "../../src/compute/Pool.ts"
import * as Random from "../../src/math/Random.ts"
import * as Moments from "../../src/math/Statistics.ts"
import * as Golden from "../support/golden.ts"
import * as Slow from "../support/SlowLlama.ts"
import { open } from "../support/slow.ts"

const random = Random.make(11n)
const LENGTH = 13
const sequences = Array.from({ length: 5 }, () => Int32Array.from({ length: LENGTH }, () => random.below(64)))

/** All rows that each site sees, over all sequences. */
const observe = Effect.fnUntraced(function* (variant: string) {
  const { config, weights } = yield* open(Golden.path(variant))
  const seen = new Map<string, Array<Slow.Row>>()
  for (const tokens of sequences) {
    Slow.logits(config, weights, tokens, (site, rows) => {
      seen.set(site, [...(seen.get(site) ?? []), ...rows])
      return rows
    })
  }
  return seen
})

const mean = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0) / values.length
const moments = (values: ReadonlyArray<number>) => {
  const center = mean(values)
  const variance = mean(values.map((x) => (x - center) ** 2))
  return {
    min: Math.min(...values),
    max: Math.max(...values),
    absmax: Math.max(...values.map(Math.abs)),
    mean: center,
    meanSquare: mean(values.map((x) => x * x)),
    std: Math.sqrt(variance),
    kurtosis: mean(values.map((x) => (x - center) ** 4)) / variance ** 2,
  }
}

const compare = (actual: Moments.Moments, values: ReadonlyArray<number>, what: string) => {
  const expected = moments(values)
  const scale = expected.absmax
  for (const name of ["min", "max", "absmax", "mean", "std"] as const) {
    assert.isAtMost(Math.abs(actual[name] - expected[name]), 2e-5 * scale, `${what} ${name}`)
  }
  assert.isAtMost(Math.abs(actual.meanSquare - expected.meanSquare), 2e-5 * scale ** 2, `${what} meanSquare`)
  assert.isAtMost(Math.abs(actual.kurtosis / expected.kurtosis - 1), 1e-3, `${what} kurtosis`)
}

const calibrate = (model: Model.Model<never>, gram: boolean, tokensPerBatch: number) =>
  Calibrating.calibrate(model, sequences, gram, tokensPerBatch, () => Effect.void)

layer(Pool.layer(2), { excludeTestServices: true })("calibration", (it) => {
  for (const variant of ["gqa-tied", "biases", "mha"]) {
    it.effect(variant, () =>
      Effect.gen(function* () {
        const sites = yield* calibrate(yield* Golden.open(variant), true, 64)
        const seen = yield* observe(variant)
        assert.deepStrictEqual([...sites.keys()].toSorted(), [...seen.keys()].toSorted())
        for (const [site, rows] of seen) {
          const { gram, sums } = sites.get(site)!
          assert.strictEqual(sums.count, LENGTH * sequences.length)
          const channels = rows[0]!.map((_, c) => rows.map((row) => row[c]!))
          Moments.perChannel(sums).forEach((one, c) => compare(one, channels[c]!, `${site}, channel ${c}:`))
          compare(Moments.overall(sums), rows.flat(), `${site}:`)
          if (/key|value/.test(site)) assert.isUndefined(gram)
          else {
            const largest = Math.max(...channels.map((column) => column.reduce((sum, x) => sum + x * x, 0)))
            channels.forEach((a, i) =>
              channels.forEach((b, j) => {
                const product = a.reduce((sum, x, t) => sum + x * b[t]!, 0)
                assert.isAtMost(Math.abs(gram![i * channels.length + j]! - product), 2e-5 * largest, `${site} gram`)
              }),
            )
          }
        }
      }),
    )
  }

  it.effect("q, k and v share what they see, and so do gate and up", () =>
    Effect.gen(function* () {
      const sites = yield* calibrate(yield* Golden.open("gqa-tied"), false, 64)
      for (const layer of [0, 1, 2]) {
        const q = sites.get(`${layer}.self_attn.q_proj`)!
        assert.strictEqual(sites.get(`${layer}.self_attn.k_proj`), q)
        assert.strictEqual(sites.get(`${layer}.self_attn.v_proj`), q)
        assert.strictEqual(sites.get(`${layer}.mlp.gate_proj`), sites.get(`${layer}.mlp.up_proj`))
        assert.notStrictEqual(sites.get(`${layer}.self_attn.o_proj`), q)
        assert.isUndefined(q.gram)
      }
      assert.notStrictEqual(sites.get("0.self_attn.q_proj"), sites.get("1.self_attn.q_proj"))
    }),
  )

  it.effect("the batch changes no bit", () =>
    Effect.gen(function* () {
      const model = yield* Golden.open("gqa-tied")
      const expected = yield* calibrate(model, false, 1)
      for (const tokens of [30, 4096]) assert.deepStrictEqual(yield* calibrate(model, false, tokens), expected)
      const { gram: _, ...rest } = (yield* calibrate(model, true, 4096)).get("1.mlp.down_proj")!
      assert.deepStrictEqual(rest.sums, expected.get("1.mlp.down_proj")!.sums)
    }),
  )
})
