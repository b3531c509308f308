/** Llama against PyTorch: every variant's hidden states, logits and greedy continuation (tests/reference/llama.py). */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readdirSync } from "node:fs"
import * as Forward from "../../src/compute/Forward.ts"
import * as Generating from "../../src/compute/Generating.ts"
import * as Model from "../../src/compute/Model.ts"
import { Pool } from "../../src/compute/Pool.ts"
import * as Slab from "../../src/compute/Slab.ts"
import llama from "../../src/models/llama.ts"
import { open, tensors } from "../support/checkpoint.ts"

const golden = new URL("../golden/llama/", import.meta.url).pathname
const TOLERANCE = 1e-4

/** Largest difference, as a fraction of the largest expected magnitude. */
const worst = (actual: Float32Array, expected: ArrayLike<number>) => {
  assert.strictEqual(actual.length, expected.length)
  let difference = 0
  let largest = 0
  for (let i = 0; i < actual.length; i++) {
    difference = Math.max(difference, Math.abs(actual[i]! - expected[i]!))
    largest = Math.max(largest, Math.abs(expected[i]!))
  }
  return difference / largest
}

const STEPS = 16
const continuations = (model: Model.Model<never>, prompts: ReadonlyArray<Int32Array>) =>
  Generating.generate(
    Forward.runner(model, true),
    prompts.map((tokens) => ({ tokens, seed: 0n })),
    {
      maxTokens: STEPS,
      sampling: { temperature: 0, topK: 0, topP: 1 },
      finished: (sequences) => Effect.succeed(sequences.map(() => false)),
      memory: 1 << 28,
      onToken: () => Effect.void,
    },
  )

layer(Pool.layer(2), { excludeTestServices: true })("llama", (it) => {
  for (const variant of readdirSync(golden)) {
    it.effect(`${variant}: hidden states and logits`, () =>
      Effect.gen(function* () {
        const expected = yield* tensors(`${golden}${variant}/golden.safetensors`)
        const model = yield* open(`${golden}${variant}`, llama)
        const { data, shape } = expected("tokens")
        const [count, width] = shape as [number, number]
        const sequences = Array.from({ length: count }, (_, i) =>
          Int32Array.from(data.slice(i * width, (i + 1) * width)),
        )
        const runner = Forward.runner(model, false)
        const lengths = sequences.map((s) => s.length)
        const groups = Forward.batches(lengths, 1024, Forward.ropeKey(model))
        assert.strictEqual(groups.length, 1)

        for (let depth = 1; depth <= model.shape.layers; depth++) {
          const shallow = { ...model, shape: { ...model.shape, layers: depth } }
          const [hidden] = yield* Forward.prefill(
            Forward.runner(shallow, false),
            sequences,
            groups,
            undefined,
            () => Effect.void,
          )
          assert.isBelow(worst(Slab.floats(hidden!), expected(`hidden.${depth}`).data), TOLERANCE, `hidden.${depth}`)
        }
        const [hidden] = yield* Forward.prefill(runner, sequences, groups, undefined, () => Effect.void)
        const head = Model.heading(model)
        const logits = Slab.make("float32", [count * width, model.shape.vocabulary])
        const weights = yield* Model.load(model, head.weights, "")
        const rows = { ...hidden!, dims: [count * width, model.shape.hidden] }
        yield* Model.run(head, { ...weights, hidden: rows }, { logits })
        assert.isBelow(worst(Slab.floats(logits), expected("logits").data), TOLERANCE)
      }),
    )

    it.effect(`${variant}: greedy continuation through the decode path`, () =>
      Effect.gen(function* () {
        const expected = yield* tensors(`${golden}${variant}/golden.safetensors`)
        const model = yield* open(`${golden}${variant}`, llama)
        const greedy = Int32Array.from(expected("greedy").data)
        const prompt = greedy.slice(0, greedy.length - STEPS)
        const alone = yield* continuations(model, [prompt])
        assert.deepStrictEqual(alone[0], greedy.slice(-STEPS))
        // Neither company nor its length changes a token.
        const others = [prompt.slice(0, 3), prompt, prompt.slice(0, 17), prompt.slice(5)]
        const together = yield* continuations(model, others)
        assert.deepStrictEqual(together[1], greedy.slice(-STEPS))
        for (const [i, other] of others.entries()) {
          assert.deepStrictEqual(together[i], (yield* continuations(model, [other]))[0])
        }
      }),
    )
  }
})
