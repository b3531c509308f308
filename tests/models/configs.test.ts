/** What config.json may say of Llama's relatives: spellings that mean the same, and what is refused. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Family from "../../src/models/Family.ts"
import llama from "../../src/models/llama.ts"
import mistral from "../../src/models/mistral.ts"
import mixtral from "../../src/models/mixtral.ts"
import phi3 from "../../src/models/phi3.ts"
import qwen2 from "../../src/models/qwen2.ts"
import qwen3 from "../../src/models/qwen3.ts"

const families: { readonly [name: string]: Family.Family<any> } = { llama, mistral, mixtral, phi3, qwen2, qwen3 }

const BASE = {
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  vocab_size: 64,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
}
type Change = { readonly [key: string]: unknown }
const decode = (name: string, change: Change) =>
  Schema.decodeUnknownEffect(families[name]!.config)({ ...BASE, ...change }, { errors: "all" })
const tables = (name: string, change: Change, length: number) =>
  Effect.map(decode(name, change), (config) => families[name]!.tables!(config, length))

const YARN = { factor: 4, original_max_position_embeddings: 64 }
const LONG = { short_factor: [1, 1, 2, 3], long_factor: [2, 4, 6, 9] }

describe("the same in other words", () => {
  const pairs: ReadonlyArray<readonly [what: string, family: string, one: Change, other: Change]> = [
    [
      "yarn, old and new",
      "qwen2",
      { rope_theta: 1e6, rope_scaling: { type: "yarn", ...YARN } },
      { rope_parameters: { rope_theta: 1e6, rope_type: "yarn", ...YARN } },
    ],
    [
      "yarn's defaults written out",
      "llama",
      { rope_scaling: { type: "yarn", ...YARN } },
      {
        rope_scaling: {
          type: "yarn",
          ...YARN,
          attention_factor: 0.1 * Math.log(4) + 1,
          beta_fast: 32,
          beta_slow: 1,
          truncate: true,
          mscale: null,
        },
      },
    ],
    [
      "an original context beside the settings goes first",
      "mistral",
      { original_max_position_embeddings: 64, rope_scaling: { type: "yarn", ...YARN } },
      { original_max_position_embeddings: 64, rope_scaling: { type: "yarn", factor: 4 } },
    ],
    [
      "without one, it is the context",
      "qwen3",
      { rope_scaling: { type: "yarn", factor: 4 } },
      { rope_scaling: { type: "yarn", factor: 4, original_max_position_embeddings: 256 } },
    ],
    [
      "su is longrope",
      "phi3",
      { original_max_position_embeddings: 64, rope_scaling: { type: "su", ...LONG } },
      { original_max_position_embeddings: 64, rope_scaling: { rope_type: "longrope", ...LONG } },
    ],
    [
      "Phi-3 was made for 4096 tokens",
      "phi3",
      { max_position_embeddings: 16_384, rope_scaling: { type: "longrope", ...LONG } },
      { max_position_embeddings: 16_384, rope_scaling: { type: "longrope", factor: 4, ...LONG } },
    ],
    [
      "Phi-3's yarn is longrope",
      "phi3",
      { original_max_position_embeddings: 64, rope_scaling: { type: "yarn", ...LONG } },
      { original_max_position_embeddings: 64, rope_scaling: { type: "longrope", factor: 4, ...LONG } },
    ],
  ]
  for (const [what, family, one, other] of pairs) {
    it.effect(what, () =>
      Effect.gen(function* () {
        for (const length of [64, 65]) {
          const expected = yield* tables(family, other, length)
          assert.deepStrictEqual(yield* tables(family, one, length), expected)
          assert.notDeepEqual(yield* tables(family, {}, length), expected)
        }
      }),
    )
  }
})

it.effect("longrope's tables depend on the length beyond the original context, and nobody else's", () =>
  Effect.gen(function* () {
    const long = yield* decode("phi3", { original_max_position_embeddings: 64, rope_scaling: { type: "su", ...LONG } })
    assert.deepStrictEqual(
      [64, 65].map((length) => phi3.tableKey!(long, length)),
      [0, 1],
    )
    const yarn = yield* decode("qwen2", { rope_scaling: { type: "yarn", ...YARN } })
    assert.strictEqual(qwen2.tableKey!(yarn, 10_000), 0)
  }),
)

describe("refused", () => {
  const cases: ReadonlyArray<readonly [what: string, families: string, change: Change, message: RegExp]> = [
    ["another activation", "mistral mixtral qwen2 qwen3 phi3", { hidden_act: "gelu" }, /Expected "silu"/],
    [
      "heads that share no keys evenly",
      "mistral mixtral qwen2 qwen3 phi3",
      { num_key_value_heads: 3 },
      /num_attention_heads 4 is not a multiple of num_key_value_heads 3/,
    ],
    [
      "heads that do not divide the hidden size",
      "mistral mixtral qwen2 phi3",
      { head_dim: null, hidden_size: 30 },
      /hidden_size 30 is not a multiple of num_attention_heads 4; give head_dim/,
    ],
    ["an odd head", "llama mistral mixtral qwen2 qwen3 phi3", { head_dim: 9 }, /head size 9 is odd/],
    [
      "an unknown rope type",
      "llama mistral mixtral qwen2 qwen3 phi3",
      { rope_scaling: { type: "spiral" } },
      /unknown rope type 'spiral'; known: default, linear, dynamic, llama3, yarn, longrope/,
    ],
    ["yarn without its factor", "llama qwen2", { rope_scaling: { type: "yarn" } }, /rope type 'yarn' needs factor/],
    [
      "longrope without its divisors",
      "phi3",
      { rope_scaling: { type: "longrope", short_factor: [1, 1, 1, 1] } },
      /rope type 'longrope' needs long_factor/,
    ],
    [
      "longrope with divisors of another head",
      "llama phi3",
      { rope_scaling: { type: "longrope", ...LONG, long_factor: [1, 2, 3] } },
      /long_factor has 3 values for the 4 pairs of channels that are turned/,
    ],
    [
      "longrope with divisors of the whole head where part is turned",
      "phi3",
      { partial_rotary_factor: 0.5, rope_scaling: { type: "longrope", ...LONG } },
      /short_factor has 4 values for the 2 pairs/,
    ],
    ["a rope type that Phi-3 has not", "phi3", { rope_scaling: { type: "linear", factor: 2 } }, /rope type 'linear'/],
    [
      "more experts for a token than there are",
      "mixtral",
      { num_local_experts: 2, num_experts_per_tok: 3 },
      /num_experts_per_tok 3 is more than num_local_experts 2/,
    ],
    [
      "types for other layers",
      "qwen2 qwen3",
      { layer_types: ["full_attention"] },
      /layer_types names 1 layers; num_hidden_layers is 2/,
    ],
    [
      "an unknown layer type",
      "qwen2 qwen3",
      { layer_types: ["full_attention", "linear_attention"] },
      /Expected "full_attention" \| "sliding_attention"/,
    ],
    [
      "a sliding layer without a window",
      "qwen2 qwen3",
      { layer_types: ["full_attention", "sliding_attention"], sliding_window: 8 },
      /layer_types has sliding_attention, which needs use_sliding_window and sliding_window/,
    ],
    [
      "a window of nothing",
      "mistral mixtral qwen2 qwen3 phi3",
      { sliding_window: 0 },
      /Expected a value greater than 0/,
    ],
  ]
  for (const [what, names, change, message] of cases) {
    for (const name of names.split(" ")) {
      it.effect(`${name}: ${what}`, () =>
        Effect.gen(function* () {
          yield* decode(name, {})
          assert.match(String((yield* Effect.flip(decode(name, change))).message), message)
        }),
      )
    }
  }
})
