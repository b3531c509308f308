/** Decoding token by token: what it has in common with scoring, and that sampling depends on a prompt's seed alone. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Forward from "../../src/compute/Forward.ts"
import * as Batch from "../../src/compute/Batch.ts"
import * as Runner from "../../src/compute/Runner.ts"
import * as Generating from "../../src/compute/Generating.ts"
import * as Model from "../../src/compute/Model.ts"
import { Pool } from "../../src/compute/Pool.ts"
import * as Slab from "../../src/compute/Slab.ts"
import type { Settings } from "../../src/math/Sampling.ts"
import type { KeyValue } from "../../src/onnx/FakeQuant.ts"
import * as Golden from "../support/golden.ts"

const prompts = [
  [1, 9, 30],
  [1, 5, 6, 7, 8, 9, 10],
  [1, 33],
  [1, 50, 2, 40, 12, 12, 61, 5, 9],
].map((ids, i) => ({
  tokens: Int32Array.from(ids),
  seed: BigInt(i) * 977n,
}))

const generate = (
  model: Model.Model<never>,
  some: ReadonlyArray<Generating.Prompt>,
  changes: {
    readonly sampling?: Settings
    readonly maxTokens?: number
    readonly memory?: number
    readonly stop?: number
  } = {},
) =>
  Effect.map(
    Generating.generate(Runner.make(model, true), some, {
      maxTokens: changes.maxTokens ?? 12,
      sampling: changes.sampling ?? { temperature: 0.9, topK: 20, topP: 0.95 },
      finished: (all) => Effect.succeed(all.map((ids) => ids.at(-1) === changes.stop)),
      memory: changes.memory ?? 1 << 26,
      onToken: () => Effect.void,
    }),
    (all) => all.map((ids) => [...ids]),
  )

const fixed = { symmetric: false, range: "fixed" } as const
const kv: KeyValue = { keys: { bits: 4, ...fixed }, values: { bits: 4, ...fixed }, group: 8, point: "after-rope" }
const models = [
  ["gqa-tied", undefined],
  ["rope-dynamic", undefined],
  [
    "rope-llama3",
    {
      activations: {},
      keyValue: { 0: { ...kv, group: 16, point: "after-rope" }, 1: { ...kv, group: 16, point: "after-rope" } },
    },
  ],
] as const

for (const size of [1, 2]) {
  layer(Pool.layer(size), { excludeTestServices: true })(`sampling, threads: ${size}`, (it) => {
    for (const [variant, quantizers] of models) {
      it.effect(variant, () =>
        Effect.gen(function* () {
          const model = yield* Golden.open(variant, quantizers)
          const expected = yield* generate(model, prompts)
          assert.deepStrictEqual(yield* generate(model, prompts), expected, "again")
          // One wave for each prompt: the memory holds a single cache.
          assert.deepStrictEqual(yield* generate(model, prompts, { memory: 1 }), expected, "in waves")
          assert.deepStrictEqual(
            (yield* generate(model, prompts.toReversed())).toReversed(),
            expected,
            "in another order",
          )
          for (const [i, prompt] of prompts.entries()) {
            assert.deepStrictEqual(yield* generate(model, [prompt]), [expected[i]], "alone")
          }
          const other = prompts.map(({ tokens }) => ({ tokens, seed: 5n }))
          assert.notDeepEqual(yield* generate(model, other), expected, "the seed decides")
          // The same prompt with the same seed, twice in one batch.
          const [first, second] = yield* generate(model, [prompts[0]!, prompts[0]!])
          assert.deepStrictEqual(first, second)
        }),
      )
    }
  })
}

layer(Pool.layer(2), { excludeTestServices: true })("decoding", (it) => {
  it.effect("stops each prompt where it is finished and changes no other", () =>
    Effect.gen(function* () {
      const model = yield* Golden.open("gqa-tied")
      const free = yield* generate(model, prompts)
      const stop = free[0]![3]!
      const stopped = yield* generate(model, prompts, { stop })
      const expected = free.map((ids) => (ids.includes(stop) ? ids.slice(0, ids.indexOf(stop) + 1) : ids))
      assert.deepStrictEqual(stopped, expected)
      assert.isBelow(stopped[0]!.length, free[0]!.length)
      assert.deepStrictEqual(
        yield* generate(model, prompts, { maxTokens: 1 }),
        free.map((ids) => ids.slice(0, 1)),
      )
      assert.deepStrictEqual(yield* generate(model, []), [])
    }),
  )

  for (const [variant, quantizers] of [
    ["gqa-tied", undefined],
    ["biases", { activations: {}, keyValue: { 0: kv, 1: kv } }],
  ] as const) {
    it.effect(
      `${variant}${quantizers ? " with KV4" : ""}: forced decoding gives the hidden states of the prefill`,
      () =>
        Effect.gen(function* () {
          const model = yield* Golden.open(variant, quantizers)
          const runner = Runner.make(model, true)
          const { hidden } = model.shape
          const lengths = [20, 13]
          const tokens = lengths.map((length, i) => Int32Array.from({ length }, (_, t) => (7 * t * t + 3 * i + 1) % 64))
          const whole = Batch.batch([0, 1], lengths)
          const [expected] = yield* Forward.prefill(runner, tokens, [whole], undefined, () => Effect.void)

          const start = [4, 2]
          const heads = tokens.map((ids, i) => ids.subarray(0, start[i]))
          const cache = Forward.makeCache(model, 2, 24)
          yield* Forward.prefill(runner, heads, [Batch.batch([0, 1], start)], [cache], () => Effect.void)
          let worst = 0
          for (let step = 0; step < 11; step++) {
            const past = start.map((n) => n + step)
            const [out] = yield* Forward.decode(runner, [
              { cache, past, tokens: Int32Array.from(past, (at, i) => tokens[i]![at]!) },
            ])
            const actual = Slab.floats(out!)
            past.forEach((at, i) => {
              const row = Slab.floats(expected!).subarray(
                (i * whole.width + at) * hidden,
                (i * whole.width + at + 1) * hidden,
              )
              const scale = Math.max(...row.map(Math.abs))
              row.forEach((x, c) => (worst = Math.max(worst, Math.abs(x - actual[i * hidden + c]!) / scale)))
            })
          }
          // A value on the edge between two codes may fall to either side: quantized, the states agree more loosely.
          assert.isBelow(worst, quantizers ? 2e-2 : 1e-5)
        }),
    )
  }
})
