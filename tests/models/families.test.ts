/**
 * Every family against PyTorch: hidden states, logits and greedy continuation of the random checkpoints in
 * `tests/golden/families/<family>/<variant>` (tests/reference/families).
 */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { existsSync, readdirSync } from "node:fs"
import * as Batch from "../../src/compute/Batch.ts"
import * as Forward from "../../src/compute/Forward.ts"
import * as Generating from "../../src/compute/Generating.ts"
import * as Model from "../../src/compute/Model.ts"
import { Pool } from "../../src/compute/Pool.ts"
import * as Runner from "../../src/compute/Runner.ts"
import * as Slab from "../../src/compute/Slab.ts"
import type * as Family from "../../src/models/Family.ts"
import { open, tensors } from "../support/checkpoint.ts"
import { modules } from "../support/plugins.ts"

const golden = new URL("../golden/families/", import.meta.url).pathname
const families = (await modules("src/models")).map(({ name, value }) => ({ name, family: value as Family.Family<any> }))
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
  // A NaN is no difference to a comparison.
  return Number.isNaN(actual.reduce((sum, x) => sum + x, 0)) ? Number.NaN : difference / largest
}

const STEPS = 16
const continuations = (model: Model.Model<never>, prompts: ReadonlyArray<Int32Array>) =>
  Generating.generate(
    Runner.make(model, true),
    prompts.map((tokens) => ({ tokens, seed: 0n })),
    {
      maxTokens: STEPS,
      sampling: { temperature: 0, topK: 0, topP: 1 },
      finished: (sequences) => Effect.succeed(sequences.map(() => false)),
      memory: 1 << 28,
      onToken: () => Effect.void,
    },
  )

const prefill = (
  model: Model.Model<never>,
  sequences: ReadonlyArray<Int32Array>,
  tokens = 4096,
): Effect.Effect<ReadonlyArray<Float32Array>, any, Pool> =>
  Effect.gen(function* () {
    const groups = Batch.batches(
      sequences.map(({ length }) => length),
      tokens,
      Runner.tableKey(model),
    )
    const states = yield* Forward.prefill(Runner.make(model, false), sequences, groups, undefined, () => Effect.void)
    const out: Array<Float32Array> = []
    groups.forEach(({ items, lengths, width }, g) =>
      items.forEach((item, i) => {
        const first = i * width * model.shape.hidden
        out[item] = Slab.floats(states[g]!).slice(first, first + lengths[i]! * model.shape.hidden)
      }),
    )
    return out
  })

const flat = (parts: ReadonlyArray<Float32Array>) => Float32Array.from(parts.flatMap((part) => [...part]))

it("every family has a golden checkpoint", () => {
  assert.deepStrictEqual(readdirSync(golden).toSorted(), families.map(({ name }) => name).toSorted())
})

for (const { family, name } of families.filter(({ name }) => existsSync(golden + name))) {
  describe(name, () => {
    layer(Pool.layer(2), { excludeTestServices: true })("as in PyTorch", (it) => {
      for (const variant of readdirSync(`${golden}${name}`)) {
        const folder = `${golden}${name}/${variant}`
        it.effect(`${variant}: hidden states and logits`, () =>
          Effect.gen(function* () {
            const expected = yield* tensors(`${folder}/golden.safetensors`)
            const model = yield* open(folder, family)
            const { data, shape } = expected("tokens")
            const [count, width] = shape as [number, number]
            const sequences = Array.from({ length: count }, (_, i) =>
              Int32Array.from(data.slice(i * width, (i + 1) * width)),
            )
            for (let depth = 1; depth <= model.shape.layers; depth++) {
              const shallow = { ...model, shape: { ...model.shape, layers: depth } }
              const hidden = flat(yield* prefill(shallow, sequences))
              assert.isBelow(worst(hidden, expected(`hidden.${depth}`).data), TOLERANCE, `hidden.${depth}`)
            }
            const rows = Slab.of([count * width, model.shape.hidden], flat(yield* prefill(model, sequences)))
            const head = Model.heading(model)
            const logits = Slab.make("float32", [count * width, model.shape.vocabulary])
            const weights = yield* Model.load(model, head.weights, "")
            yield* Model.run(head, { ...weights, hidden: rows }, { logits })
            assert.isBelow(worst(Slab.floats(logits), expected("logits").data), TOLERANCE)
          }),
        )

        it.effect(`${variant}: sequences of unequal lengths together as one by one`, () =>
          Effect.gen(function* () {
            const expected = yield* tensors(`${folder}/golden.safetensors`)
            const model = yield* open(folder, family)
            const { data, shape } = expected("tokens")
            const width = shape[1]!
            const lengths = [width, 1, width - 3, 5, 2]
            const sequences = lengths.map((length, i) => Int32Array.from(data.slice(i, i + length)))
            const together = yield* prefill(model, sequences)
            for (const [i, sequence] of sequences.entries())
              assert.deepStrictEqual(together[i], (yield* prefill(model, [sequence]))[0], `length ${sequence.length}`)
          }),
        )

        it.effect(`${variant}: greedy continuation through the decode path`, () =>
          Effect.gen(function* () {
            const expected = yield* tensors(`${folder}/golden.safetensors`)
            const model = yield* open(folder, family)
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
  })
}
