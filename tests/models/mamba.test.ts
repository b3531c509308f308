/** What Mamba's config.json may say, and the names its tensors go by. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import mamba from "../../src/models/mamba.ts"

const decode = (config: object) => Schema.decodeUnknownEffect(mamba.config)(config)
const shapes = (config: object) =>
  Effect.map(decode(config), (c): object => {
    const { hidden, layers, memory, vocabulary } = mamba.shape(c)
    const states: object = memory.kind === "recurrent" ? memory.states : {}
    return { hidden, layers, vocabulary, ...states }
  })

it.effect("sizes under either name, and by default", () =>
  Effect.gen(function* () {
    const usual = { hidden: 768, layers: 32, vocabulary: 50_280, conv: [3, 1536], ssm: [16, 1536] }
    assert.deepStrictEqual(yield* shapes({}), usual)
    const other = { d_model: 64, n_layer: 3, d_inner: 96, d_state: 8, d_conv: 2, vocab_size: 10 }
    const expected = { hidden: 64, layers: 3, vocabulary: 10, conv: [1, 96], ssm: [8, 96] }
    assert.deepStrictEqual(yield* shapes(other), expected)
    const own = { hidden_size: 64, num_hidden_layers: 3, intermediate_size: 96, state_size: 8, conv_kernel: 2 }
    assert.deepStrictEqual(yield* shapes({ ...other, ...own }), expected)
    assert.deepStrictEqual(yield* shapes({ hidden_size: 64, expand: 3 }), {
      ...usual,
      hidden: 64,
      conv: [3, 192],
      ssm: [16, 192],
    })
  }),
)

it.effect("contradictions and unknown modes are errors", () =>
  Effect.gen(function* () {
    const cases: ReadonlyArray<readonly [object, RegExp]> = [
      [{ state_size: 16, d_state: 8 }, /state_size 16 and d_state 8 are the same size under two names; give one/],
      [{ conv_kernel: 1 }, /conv_kernel 1 sees no token but its own/],
      [{ hidden_act: "gelu" }, /"silu" \| "swish"/],
      [{ time_step_rank: "half" }, /"auto"/],
      [{ hidden_size: 0 }, /hidden_size/],
    ]
    for (const [config, message] of cases) {
      const error = yield* Effect.flip(decode(config))
      assert.match(String(error), message)
    }
  }),
)

it("tensors with and without prefix, and the embedding's first name", () => {
  const rename = mamba.rename!
  for (const name of [
    "backbone.embeddings.weight",
    "backbone.embedding.weight",
    "embeddings.weight",
    "embedding.weight",
  ])
    assert.strictEqual(rename(name), "backbone.embeddings.weight")
  assert.strictEqual(rename("layers.3.mixer.A_log"), "backbone.layers.3.mixer.A_log")
  assert.strictEqual(rename("norm_f.weight"), "backbone.norm_f.weight")
  assert.strictEqual(rename("lm_head.weight"), "lm_head.weight")
})
