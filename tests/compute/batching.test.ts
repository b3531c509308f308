/** A request's scores are the same bits alone, in any company, in any order, on any number of threads. */
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Batch from "../../src/compute/Batch.ts"
import * as Runner from "../../src/compute/Runner.ts"
import type * as Model from "../../src/compute/Model.ts"
import { Pool } from "../../src/compute/Pool.ts"
import * as Scoring from "../../src/compute/Scoring.ts"
import * as Slab from "../../src/compute/Slab.ts"
import type { KeyValue } from "../../src/onnx/FakeQuant.ts"
import * as Random from "../../src/math/Random.ts"
import * as Golden from "../support/golden.ts"

const random = Random.make(1n)
const request = (length: number): Scoring.Request => ({
  tokens: Int32Array.from({ length }, () => random.below(64)),
  from: 1 + random.below(length - 1),
})
/** Lengths around the sizes at which kernels change their path, two of them equal. */
const requests = [2, 3, 5, 9, 16, 17, 31, 33, 33, 48, 64, 65, 90, 127].map(request)

const score = Effect.fnUntraced(function* (
  model: Model.Model<never>,
  requests: ReadonlyArray<Scoring.Request>,
  tokensPerBatch: number,
) {
  const rows = yield* Scoring.hiddenRows(Runner.make(model, false), requests, tokensPerBatch, () => Effect.void)
  const { greedy, logprob } = yield* Scoring.scoreRows(model, rows, Scoring.targets(requests), undefined)
  let at = 0
  return requests.map(({ from, tokens }) => {
    const end = at + tokens.length - from
    const part = { logprob: [...logprob.subarray(at, end)], greedy: [...greedy.subarray(at, end)] }
    at = end
    return part
  })
})

const fixed = { symmetric: false, range: "fixed" } as const
const kv: KeyValue = { keys: { bits: 4, ...fixed }, values: { bits: 3, ...fixed }, group: 4, point: "after-rope" }
const quantized = {
  activations: {
    "0.self_attn.q_proj": { kind: "dynamic", bits: 4, ...fixed },
    "1.mlp.down_proj": { kind: "dynamic", bits: 8, ...fixed },
  },
  keyValue: { 0: kv, 1: kv },
} as const

const cases = [
  ["gqa-tied", undefined],
  ["head-dim", undefined],
  ["rope-dynamic", undefined],
  ["biases", quantized],
] as const

/** Scores of one pool, for comparison with the other's. */
const seen = new Map<string, unknown>()
for (const size of [1, 2]) {
  layer(Pool.layer(size), { excludeTestServices: true })(`threads: ${size}`, (it) => {
    for (const [variant, quantizers] of cases) {
      it.effect(variant, () =>
        Effect.gen(function* () {
          const model = yield* Golden.open(variant, quantizers)
          const expected = yield* Effect.forEach(requests, (one) =>
            Effect.map(score(model, [one], 512), ([only]) => only),
          )
          for (const tokensPerBatch of [64, 512, 4096]) {
            assert.deepStrictEqual(yield* score(model, requests, tokensPerBatch), expected, `${tokensPerBatch} tokens`)
          }
          const order = requests.map((_, i) => (i * 5 + 3) % requests.length)
          const shuffled = yield* score(
            model,
            order.map((i) => requests[i]!),
            512,
          )
          assert.deepStrictEqual(
            shuffled,
            order.map((i) => expected[i]),
          )
          assert.deepStrictEqual(seen.get(variant) ?? expected, expected, "another number of threads")
          seen.set(variant, expected)
        }),
      )
    }
  })
}

describe("groups", () => {
  layer(Pool.layer(1), { excludeTestServices: true })((it) => {
    it.effect("hold at most so many tokens with their padding, and every sequence once", () =>
      Effect.sync(() => {
        const lengths = requests.map(({ tokens }) => tokens.length)
        for (const tokens of [1, 64, 200, 512, 4096]) {
          const groups = Batch.batches(lengths, tokens, () => 0)
          for (const { items, width } of groups) assert.isTrue(items.length === 1 || items.length * width <= tokens)
          assert.deepStrictEqual(
            groups.flatMap(({ items }) => items).toSorted((a, b) => a - b),
            lengths.map((_, i) => i),
          )
        }
        assert.strictEqual(Batch.batches(lengths, 1, () => 0).length, lengths.length)
        const apart = Batch.batches([8, 8, 4, 4], 100, (length) => length)
        assert.deepStrictEqual(
          apart.map(({ items }) => items),
          [
            [0, 1],
            [2, 3],
          ],
        )
      }),
    )
    it.effect("rows beyond the scored tokens are zero", () =>
      Effect.gen(function* () {
        const model = yield* Golden.open("biases")
        const one = { tokens: Int32Array.of(1, 2, 3), from: 2 }
        const rows = yield* Scoring.hiddenRows(Runner.make(model, false), [one], 64, () => Effect.void)
        assert.deepStrictEqual(rows.dims, [2, 32])
        assert.isTrue(
          Slab.floats(rows)
            .subarray(32)
            .every((x) => x === 0),
        )
        assert.isTrue(
          Slab.floats(rows)
            .subarray(0, 32)
            .some((x) => x !== 0),
        )
      }),
    )
  })
})
