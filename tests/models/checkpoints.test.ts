/** What published checkpoints call their tensors and their architecture, and which are refused by their config alone. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import * as Architecture from "../../stages/Architecture.ts"
import * as Checkpoint from "../../src/data/Checkpoint.ts"
import { encode } from "../../src/data/SafetensorsWriter.ts"
import * as Family from "../../src/models/Family.ts"
import { folder, write } from "../support/folder.ts"
import { modules } from "../support/plugins.ts"

const golden = new URL("../golden/families/", import.meta.url).pathname
const families = (await modules("src/models")).map(({ name, value }) => ({ name, family: value as Family.Family<any> }))

describe("a checkpoint of the bare model", () => {
  for (const { family, name } of families.filter(({ name }) => existsSync(golden + name))) {
    for (const variant of readdirSync(golden + name)) {
      it.effect(`${name}, ${variant}: is the model without its prefix`, () =>
        Effect.gen(function* () {
          const at = `${golden}${name}/${variant}`
          const raw = JSON.parse(readFileSync(`${at}/config.json`, "utf8"))
          const outline = Family.outline(family, yield* Schema.decodeUnknownEffect(family.config)(raw))
          const weights = yield* Checkpoint.weights(yield* Checkpoint.listing(at), at)
          const whole = yield* Checkpoint.catalog(weights)
          // `transformer.` of `transformer.h.0.`; heads have none.
          const [prefix] = family.prefix(0).match(/^[^.]+\./)!
          const full = new Map([...whole].map(([tensor, entry]) => [outline.rename(tensor), entry]))
          const bare = new Map([...full].map(([tensor, entry]) => [tensor.replace(prefix, ""), entry]))
          assert.isFalse([...bare.keys()].some((tensor) => tensor.startsWith(prefix)))
          assert.strictEqual(bare.size, whole.size)
          assert.deepStrictEqual(
            yield* Checkpoint.match(weights, bare, outline),
            yield* Checkpoint.match(weights, whole, outline),
          )
        }),
      )
    }
  }
})

/** What is known of a checkpoint with this config and no weights. */
const described = (config: object) =>
  Effect.gen(function* () {
    const root = yield* folder
    const weights = write(root, "model.safetensors", encode({}))
    return yield* Architecture.describe({ config: write(root, "config.json", JSON.stringify(config)), weights })
  })

describe("an older model type", () => {
  const FALCON_7B = {
    alibi: false,
    apply_residual_connection_post_layernorm: false,
    architectures: ["RWForCausalLM"],
    attention_dropout: 0.0,
    auto_map: { AutoConfig: "configuration_RW.RWConfig", AutoModelForCausalLM: "modelling_RW.RWForCausalLM" },
    bias: false,
    bos_token_id: 11,
    eos_token_id: 11,
    hidden_dropout: 0.0,
    hidden_size: 4544,
    initializer_range: 0.02,
    layer_norm_epsilon: 1e-5,
    model_type: "RefinedWebModel",
    multi_query: true,
    n_head: 71,
    n_layer: 32,
    parallel_attn: true,
    torch_dtype: "bfloat16",
    transformers_version: "4.27.4",
    use_cache: true,
    vocab_size: 65_024,
  }
  const { multi_query: _, ...REST } = FALCON_7B
  const FALCON_40B = { ...REST, hidden_size: 8192, model_type: "RefinedWeb", n_head: 128, n_head_kv: 8, n_layer: 60 }
  const STABLELM = {
    architectures: ["StableLMEpochForCausalLM"],
    auto_map: { AutoConfig: "configuration_stablelm_epoch.StableLMEpochConfig" },
    bos_token_id: 0,
    eos_token_id: 0,
    hidden_act: "silu",
    hidden_size: 2560,
    initializer_range: 0.02,
    intermediate_size: 6912,
    max_position_embeddings: 4096,
    model_type: "stablelm_epoch",
    norm_eps: 1e-5,
    num_attention_heads: 32,
    num_heads: 32,
    num_hidden_layers: 32,
    num_key_value_heads: 32,
    rope_pct: 0.25,
    rope_theta: 10_000,
    rotary_scaling_factor: 1.0,
    tie_word_embeddings: false,
    torch_dtype: "bfloat16",
    use_cache: true,
    vocab_size: 50_304,
  }
  const cases: ReadonlyArray<readonly [what: string, old: object, now: object]> = [
    [
      "falcon-7b",
      FALCON_7B,
      {
        model_type: "falcon",
        hidden_size: 4544,
        num_attention_heads: 71,
        num_hidden_layers: 32,
        vocab_size: 65_024,
        multi_query: true,
        parallel_attn: true,
        new_decoder_architecture: false,
      },
    ],
    [
      "falcon-40b",
      FALCON_40B,
      {
        model_type: "falcon",
        hidden_size: 8192,
        num_attention_heads: 128,
        num_hidden_layers: 60,
        num_kv_heads: 8,
        vocab_size: 65_024,
        new_decoder_architecture: true,
      },
    ],
    [
      "falcon-rw-1b, with the old code's defaults left out",
      {
        alibi: true,
        bias: true,
        hidden_size: 2048,
        model_type: "RefinedWebModel",
        n_head: 32,
        n_layer: 24,
        vocab_size: 50_304,
      },
      {
        model_type: "falcon",
        alibi: true,
        bias: true,
        hidden_size: 2048,
        multi_query: false,
        num_attention_heads: 32,
        num_hidden_layers: 24,
        parallel_attn: false,
        vocab_size: 50_304,
      },
    ],
    [
      "falcon, spelled as before it had the name",
      {
        hidden_size: 8192,
        model_type: "falcon",
        n_head: 128,
        n_head_kv: 8,
        n_layer: 60,
        new_decoder_architecture: true,
        vocab_size: 65_024,
      },
      {
        hidden_size: 8192,
        model_type: "falcon",
        new_decoder_architecture: true,
        num_attention_heads: 128,
        num_hidden_layers: 60,
        num_kv_heads: 8,
        vocab_size: 65_024,
      },
    ],
    [
      "stablelm-3b-4e1t",
      STABLELM,
      {
        model_type: "stablelm",
        hidden_size: 2560,
        intermediate_size: 6912,
        layer_norm_eps: 1e-5,
        num_attention_heads: 32,
        num_hidden_layers: 32,
        num_key_value_heads: 32,
        partial_rotary_factor: 0.25,
        rope_theta: 10_000,
        vocab_size: 50_304,
      },
    ],
  ]
  for (const [what, old, now] of cases) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const [first, today] = [yield* described(old), yield* described(now)]
        assert.strictEqual(first.name, today.name)
        assert.deepStrictEqual(first.outline, today.outline)
        const tables = ({ decoded, family }: typeof first) => family.tables!(decoded, 8)
        assert.deepStrictEqual(tables(first), tables(today))
      }),
    )
  }

  it.effect("says a size under two names only where they agree", () =>
    Effect.gen(function* () {
      yield* described({ ...FALCON_40B, num_kv_heads: 8, new_decoder_architecture: true })
      const { message } = yield* Effect.flip(described({ ...FALCON_40B, num_kv_heads: 16 }))
      assert.match(message, /config\.json: n_head_kv 8 and num_kv_heads 16 are the same size under two names/)
    }),
  )

  it.effect("scales positions in no way that is unknown", () =>
    Effect.gen(function* () {
      const { message } = yield* Effect.flip(described({ ...STABLELM, rotary_scaling_factor: 4 }))
      assert.match(message, /config\.json: rotary_scaling_factor is 4; only 1 is known/)
    }),
  )

  it.effect("is nobody's where no family has it", () =>
    Effect.gen(function* () {
      for (const type of ["RefinedWebModels", "toString", "constructor"]) {
        const { message } = yield* Effect.flip(described({ ...FALCON_7B, model_type: type }))
        assert.match(message, new RegExp(`unknown architecture: no model '${type}'; .*falcon`))
      }
    }),
  )

  it("is no other family's name", () => {
    const older = families.map(({ family, name }) => Object.keys(family.aliases ?? {}).filter((type) => type !== name))
    assert.deepStrictEqual(older.flat().toSorted(), ["RefinedWeb", "RefinedWebModel", "stablelm_epoch"])
    for (const { name } of families) assert.notInclude(older.flat(), name)
  })
})

describe("a checkpoint that is quantized already", () => {
  const raw = JSON.parse(readFileSync(`${golden}llama/mha/config.json`, "utf8"))
  const cases: ReadonlyArray<readonly [what: string, change: object, message: RegExp]> = [
    [
      "GPTQ",
      { quantization_config: { bits: 4, quant_method: "gptq" } },
      /has quantization_config \(quant_method 'gptq'\)/,
    ],
    ["AWQ", { quantization_config: { bits: 4, quant_method: "awq" } }, /quant_method 'awq'/],
    ["fp8", { quantization_config: { quant_method: "fp8", weight_block_size: [128, 128] } }, /quant_method 'fp8'/],
    ["bitsandbytes, early", { quantization_config: { load_in_8bit: true } }, /quantization_config \(no quant_method\)/],
    [
      "compressed-tensors",
      { compression_config: { quant_method: "compressed-tensors" } },
      /has compression_config \(quant_method 'compressed-tensors'\)/,
    ],
    ["something else", { compression_config: "sparse" }, /has compression_config \(no quant_method\)/],
  ]
  for (const [what, change, expected] of cases) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const { message } = yield* Effect.flip(described({ ...raw, ...change }))
        assert.match(message, /config\.json: /)
        assert.match(message, expected)
        assert.match(message, /the checkpoint is quantized already; load the one it was made from/)
      }),
    )
  }

  it.effect("is no checkpoint whose config says null", () =>
    described({ ...raw, quantization_config: null, compression_config: null }),
  )
})
