/** What config.json may say: spellings that mean the same, what may be left out, how long texts may be, what is refused. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Family from "../../src/models/Family.ts"
import llama from "../../src/models/llama.ts"
import phi3 from "../../src/models/phi3.ts"
import qwen2 from "../../src/models/qwen2.ts"
import { Block, plain } from "../../src/onnx/Block.ts"
import { modules } from "../support/plugins.ts"

const families: { readonly [name: string]: Family.Family<any> } = Object.fromEntries(
  (await modules("src/models")).map(({ name, value }) => [name, value as Family.Family<any>]),
)

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

describe("how long a text may be", () => {
  const linear = { rope_scaling: { type: "linear", factor: 4 } }
  const cases: ReadonlyArray<readonly [what: string, families: string, change: Change, context: number]> = [
    ["nothing is scaled", "llama mistral mixtral qwen2 qwen3 phi3 phi gpt_neox stablelm falcon gemma gemma2", {}, 256],
    [
      "positions are divided",
      "llama mistral mixtral qwen2 qwen3 phi gpt_neox stablelm falcon gemma gemma2",
      linear,
      1024,
    ],
    ["what is divided has ALiBi instead", "falcon", { ...linear, alibi: true }, 256],
    ["what is divided is counted already", "gemma3_text", linear, 256],
    ["vicuna-7b-v1.5-16k", "llama", { ...linear, max_position_embeddings: 4096, max_sequence_length: 16_384 }, 16_384],
    ["the length is said in a key of its own", "llama", { max_sequence_length: 512 }, 512],
    ["that key is of an earlier model", "llama", { ...linear, max_sequence_length: 256 }, 1024],
    ["that key says nothing", "llama", { max_sequence_length: null }, 256],
    ["LongChat", "llama", { max_position_embeddings: 2048, rope_condense_ratio: 8 }, 16_384],
    ["the base grows", "llama qwen2", { rope_scaling: { type: "dynamic", factor: 2 } }, 512],
    ["a factor is no whole number", "llama", { rope_scaling: { type: "dynamic", factor: 1.999 } }, 511],
    ["positions are multiplied", "llama", { rope_scaling: { type: "linear", factor: 0.5 } }, 256],
    [
      "Qwen2.5 with yarn as its card says",
      "qwen2",
      {
        max_position_embeddings: 32_768,
        rope_scaling: { type: "yarn", factor: 4, original_max_position_embeddings: 32_768 },
      },
      131_072,
    ],
    [
      "yarn counted already",
      "qwen3",
      { rope_parameters: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 64 } },
      256,
    ],
    [
      "Llama 3.1",
      "llama",
      {
        rope_scaling: {
          rope_type: "llama3",
          factor: 8,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 64,
        },
      },
      256,
    ],
    [
      "longrope",
      "phi3",
      { original_max_position_embeddings: 64, rope_scaling: { type: "su", ...LONG, factor: 4 } },
      256,
    ],
  ]
  for (const [what, names, change, context] of cases) {
    for (const name of names.split(" ")) {
      it.effect(`${name}: ${what}`, () =>
        Effect.gen(function* () {
          assert.strictEqual(families[name]!.shape(yield* decode(name, change)).context, context)
        }),
      )
    }
  }

  it.effect("tables are made from the config's own length", () =>
    Effect.gen(function* () {
      // Beyond 256 positions the base grows, and with the sequence alone.
      const config = yield* decode("llama", { rope_scaling: { type: "dynamic", factor: 2 } })
      assert.deepStrictEqual(
        [256, 257, 512].map((length) => llama.tableKey!(config, length)),
        [0, 257, 512],
      )
    }),
  )
})

describe("what a config may leave out", () => {
  const { hidden_size, intermediate_size, num_attention_heads, num_hidden_layers, vocab_size } = BASE
  const SIZES = { hidden_size, intermediate_size, num_attention_heads, num_hidden_layers, vocab_size }
  const least = (name: string, config: Change) => Schema.decodeUnknownEffect(families[name]!.config)(config)
  // The defaults of transformers 5.23.
  const cases: { readonly [family: string]: Change } = {
    falcon: { max_position_embeddings: 2048, layer_norm_epsilon: 1e-5 },
    gemma: { max_position_embeddings: 8192, rms_norm_eps: 1e-6, num_key_value_heads: 16, head_dim: 256 },
    gemma2: { max_position_embeddings: 8192, rms_norm_eps: 1e-6, num_key_value_heads: 4, head_dim: 256 },
    gemma3_text: { max_position_embeddings: 131_072, rms_norm_eps: 1e-6, num_key_value_heads: 4, head_dim: 256 },
    llama: { max_position_embeddings: 2048, rms_norm_eps: 1e-6, tie_word_embeddings: false },
    mistral: { max_position_embeddings: 131_072, rms_norm_eps: 1e-6, num_key_value_heads: 8, sliding_window: 4096 },
    mixtral: { max_position_embeddings: 131_072, rms_norm_eps: 1e-5, num_key_value_heads: 8, sliding_window: null },
    phi3: { max_position_embeddings: 4096, original_max_position_embeddings: 4096, rms_norm_eps: 1e-5 },
    qwen2: { max_position_embeddings: 32_768, rms_norm_eps: 1e-6, num_key_value_heads: 32 },
    qwen3: { max_position_embeddings: 32_768, rms_norm_eps: 1e-6, num_key_value_heads: 32, head_dim: 128 },
  }
  for (const [name, defaults] of Object.entries(cases)) {
    // Of as many heads as there are groups by default.
    const sizes = { ...SIZES, hidden_size: 64, num_attention_heads: 32 }
    it.effect(`${name}: everything but sizes`, () =>
      Effect.gen(function* () {
        const config = yield* least(name, sizes)
        for (const [key, value] of Object.entries(defaults)) assert.deepStrictEqual(config[key], value, key)
      }),
    )
    it.effect(`${name}: no size`, () =>
      Effect.gen(function* () {
        // Falcon's inner size is four times the other.
        for (const key of Object.keys(sizes).filter((key) => name !== "falcon" || key !== "intermediate_size")) {
          const { [key as "hidden_size"]: _, ...rest } = sizes
          assert.match(String((yield* Effect.flip(least(name, rest))).message), new RegExp(`Missing key\\n.*"${key}"`))
        }
      }),
    )
  }
})

describe("LongChat as transformers 5 saves it", () => {
  const written = (theta: number, change: Change) => ({
    rope_parameters: { rope_type: "default", rope_theta: theta, ...change },
  })

  it.effect("is scaled once, at the base that is written", () =>
    Effect.gen(function* () {
      const first = { rope_theta: 500, rope_condense_ratio: 8 }
      const saved = { ...written(500, {}), rope_condense_ratio: 8 }
      assert.deepStrictEqual(yield* tables("llama", saved, 64), yield* tables("llama", first, 64))
      assert.deepStrictEqual(
        yield* tables("llama", saved, 64),
        yield* tables("llama", { rope_theta: 500, rope_scaling: { type: "linear", factor: 8 } }, 64),
      )
    }),
  )

  it.effect("is refused where both keys scale", () =>
    Effect.gen(function* () {
      for (const change of [
        written(500, { rope_type: "linear", factor: 8 }),
        { rope_scaling: { type: "dynamic", factor: 2 } },
      ])
        assert.match(
          String((yield* Effect.flip(decode("llama", { ...change, rope_condense_ratio: 8 }))).message),
          /rope_condense_ratio and rope_scaling both scale the positions/,
        )
    }),
  )
})

it.effect("Gemma's activation is the tanh GELU, whatever its first configs call it", () =>
  Effect.gen(function* () {
    const gemma = families["gemma"]!
    const activations = (change: Change) =>
      Effect.map(decode("gemma", change), (config) => {
        const asked: Array<string> = []
        class Asked extends Block {
          override gelu(...[x, approximate]: Parameters<Block["gelu"]>) {
            asked.push(approximate)
            return super.gelu(x, approximate)
          }
        }
        const b = new Asked(plain)
        gemma.block(b, config, b.graph.input("hidden", "float32", ["batch", "sequence", BASE.hidden_size]), 0)
        return asked
      })
    for (const change of [
      { hidden_act: "gelu" },
      { hidden_act: "gelu", hidden_activation: null },
      { hidden_act: "gelu_pytorch_tanh", hidden_activation: null },
      { hidden_act: "gelu", hidden_activation: "gelu_pytorch_tanh" },
    ])
      assert.deepStrictEqual(yield* activations(change), ["tanh"])
    yield* Effect.flip(decode("gemma", { hidden_activation: "gelu" }))
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
