/** Sparse experts: what calibration sees of them, against a slow model in double, and experts without any token. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Batch from "../../src/compute/Batch.ts"
import * as Calibrating from "../../src/compute/Calibrating.ts"
import * as Forward from "../../src/compute/Forward.ts"
import type * as Model from "../../src/compute/Model.ts"
import { Pool } from "../../src/compute/Pool.ts"
import * as Runner from "../../src/compute/Runner.ts"
import * as Slab from "../../src/compute/Slab.ts"
import * as Random from "../../src/math/Random.ts"
import mixtral from "../../src/models/mixtral.ts"
import type { Activation } from "../../src/onnx/FakeQuant.ts"
import * as Checkpoint from "../support/checkpoint.ts"
import * as Slow from "../support/SlowMixtral.ts"
import type { Row } from "../support/SlowLlama.ts"
import { open } from "../support/slow.ts"

const path = (variant: string) => fileURLToPath(new URL(`../golden/families/mixtral/${variant}`, import.meta.url))
const random = Random.make(5n)
const LENGTH = 11
const sequences = Array.from({ length: 4 }, () => Int32Array.from({ length: LENGTH }, () => random.below(64)))

const calibrate = (model: Model.Model<never>, texts: ReadonlyArray<Int32Array>, gram: boolean, tokens = 64) =>
  Calibrating.calibrate(model, texts, gram, tokens, () => Effect.void)

const prefill = (model: Model.Model<never>, texts: ReadonlyArray<Int32Array>) =>
  Effect.gen(function* () {
    const groups = [
      Batch.batch(
        [...texts.keys()],
        texts.map(({ length }) => length),
      ),
    ]
    const states = yield* Forward.prefill(Runner.make(model, false), texts, groups, undefined, () => Effect.void)
    return Slab.floats(states[0]!)
  })

layer(Pool.layer(2), { excludeTestServices: true })("experts", (it) => {
  for (const variant of ["2-of-4", "one-of-3"]) {
    it.effect(`${variant}: statistics of the routed tokens alone`, () =>
      Effect.gen(function* () {
        const raw = JSON.parse(readFileSync(`${path(variant)}/config.json`, "utf8"))
        const { config, weights } = yield* open(path(variant))
        const slow = { ...config, experts: raw.num_local_experts, best: raw.num_experts_per_tok }
        const expected = new Map<string, ReadonlyArray<Row>>()
        for (const tokens of sequences)
          Slow.hidden(slow, weights, tokens, (site, rows) =>
            expected.set(site, [...(expected.get(site) ?? []), ...rows]),
          )
        const seen = yield* calibrate(yield* Checkpoint.open(path(variant), mixtral), sequences, true)
        assert.deepStrictEqual([...seen.keys()].toSorted(), [...expected.keys()].toSorted())
        let routed = 0
        for (const [site, rows] of expected) {
          const { gram, sums } = seen.get(site)!
          assert.strictEqual(sums.count, rows.length, site)
          if (site.endsWith("w1")) routed += rows.length
          if (rows.length === 0) continue
          const channels = rows[0]!.map((_, c) => rows.map((row) => row[c]!))
          const largest = Math.max(...rows.flat().map(Math.abs))
          const near = (actual: number, value: number, power: number, what: string) => {
            const terms = what.startsWith("m") || what === "absmax" ? 1 : rows.length
            assert.isAtMost(Math.abs(actual - value), 1e-5 * terms * largest ** power, `${site} ${what}`)
          }
          const sum = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0)
          channels.forEach((values, c) => {
            near(sums.min[c]!, Math.min(...values), 1, "min")
            near(sums.max[c]!, Math.max(...values), 1, "max")
            near(sums.absmax[c]!, Math.max(...values.map(Math.abs)), 1, "absmax")
            const powers = [sums.sum, sums.sum2, sums.sum3, sums.sum4]
            powers.forEach((of, p) => near(of[c]!, sum(values.map((x) => x ** (p + 1))), p + 1, `s${p + 1}`))
            if (gram !== undefined)
              channels.forEach((others, d) =>
                near(gram[c * channels.length + d]!, sum(values.map((x, t) => x * others[t]!)), 2, "gram"),
              )
          })
          assert.strictEqual(gram === undefined, /key|value/.test(site))
        }
        assert.strictEqual(routed, config.layers * sequences.length * LENGTH * slow.best)
      }),
    )
  }

  it.effect("the batch changes no bit of an expert's statistics", () =>
    Effect.gen(function* () {
      const model = yield* Checkpoint.open(path("2-of-8"), mixtral)
      const expected = yield* calibrate(model, sequences, false, 1)
      assert.deepStrictEqual(yield* calibrate(model, sequences, false, 4096), expected)
    }),
  )

  it.effect("an expert that saw no token says so, and computes nothing, however its input is quantized", () =>
    Effect.gen(function* () {
      const model = yield* Checkpoint.open(path("2-of-8"), mixtral)
      const short = [sequences[0]!.slice(0, 2)]
      const seen = yield* calibrate(model, short, false)
      const experts = [...seen].filter(([site]) => site.startsWith("0.") && site.endsWith("w2"))
      // Two tokens reach four experts of eight at most.
      assert.strictEqual(experts.length, 8)
      assert.strictEqual(
        experts.reduce((sum, [, { sums }]) => sum + sums.count, 0),
        2 * 2,
      )
      const idle = experts.filter(([, { sums }]) => sums.count === 0).map(([site]) => site.replace(/w2$/, ""))
      assert.isAtLeast(idle.length, 4)
      const shallow = { ...model, shape: { ...model.shape, layers: 1 } }
      const expected = yield* prefill(shallow, short)
      const grid = { range: "fixed" } as const
      const quantizers: ReadonlyArray<Activation> = [
        { kind: "dynamic", bits: 2, symmetric: false, ...grid },
        { kind: "dynamic", bits: 2, symmetric: true, ...grid },
        { kind: "static", bits: 2, symmetric: false, scale: 0.5, zero: 1, ...grid },
        { kind: "static", bits: 2, symmetric: true, scale: 0.5, zero: 0, ...grid },
      ]
      const quantized = (experts: ReadonlyArray<string>, quantizer: Activation) =>
        prefill(
          {
            ...shallow,
            activations: Object.fromEntries(
              experts.flatMap((expert) => ["w1", "w2", "w3"].map((name) => [expert + name, quantizer])),
            ),
          },
          short,
        )
      const busy = experts.map(([site]) => site.replace(/w2$/, "")).filter((expert) => !idle.includes(expert))
      for (const quantizer of quantizers) {
        assert.deepStrictEqual(yield* quantized(idle, quantizer), expected)
        assert.notDeepEqual(yield* quantized(busy, quantizer), expected)
      }
    }),
  )
})
