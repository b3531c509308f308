/** What a small file may ask for: work and memory without end are refused, with a sentence that says what and where. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Checkpoint from "../../src/data/Checkpoint.ts"
import * as Json from "../../src/data/Json.ts"
import * as Tokenizer from "../../src/data/Tokenizer.ts"
import llama from "../../src/models/llama.ts"
import * as Family from "../../src/models/Family.ts"
import { describe as architecture } from "../../stages/Architecture.ts"
import { folder, write } from "../support/folder.ts"
import * as Sound from "./Sound.ts"
import * as Torch from "./Torch.ts"

const configs: ReadonlyArray<readonly [variant: string, change: object, message: RegExp]> = [
  ["llama/gqa-tied", { num_hidden_layers: 1e9 }, /config\.json: asks for 1000000000 layers; at most 1024 are drawn/],
  ["llama/gqa-tied", { hidden_size: 2 ** 30, head_dim: 2 ** 30 }, /asks for 1073741824 channels of a head; at most/],
  ["qwen2/tied", { num_hidden_layers: 2 ** 53 - 1 }, /asks for 9007199254740991 layers/],
  ["mixtral/2-of-2", { num_local_experts: 1e9 }, /asks for 2000000002 layers and experts of them; at most 16384/],
  [
    "stablelm/2-12b",
    { hidden_size: 2 ** 30, num_attention_heads: 2 ** 28, num_key_value_heads: 1 },
    /heads in all layer/,
  ],
  [
    "stablelm/2-12b",
    { partial_rotary_factor: 1e21 },
    /Expected a value less than or equal to 1\n {2}at \["partial_rot/,
  ],
  ["mamba/no-conv-bias", { conv_kernel: 1e9 }, /conv_kernel is 1000000000; at most 16 are drawn/],
  ["gpt_neo/bare-names", { attention_types: [[[], 1e9]] }, /\["attention_types"\]\[0\]\[0\]/],
  ["gemma3_text/pattern", { head_dim: 1 }, /rotary positions turn pairs of channels, and 1 of a head's/],
]

describe("config.json", () => {
  for (const [variant, change, message] of configs) {
    it.effect(`${variant} with ${JSON.stringify(change)}`, () =>
      Effect.gen(function* () {
        const root = yield* folder
        const files = Sound.checkpoint(variant)
        for (const [name, bytes] of Object.entries(files)) write(root, name, bytes)
        const config = write(root, "config.json", JSON.stringify({ ...Sound.object(files["config.json"]!), ...change }))
        const { weights } = yield* Checkpoint.files(yield* Checkpoint.listing(root), root)
        const started = performance.now()
        assert.match((yield* Effect.flip(architecture({ config, weights }))).message, message)
        assert.isBelow(performance.now() - started, 5000)
      }),
    )
  }

  it.effect("sizes alone cost nothing to draw", () =>
    Effect.gen(function* () {
      const raw = { ...Sound.object(Sound.read("families/llama/gqa-tied/config.json")), head_dim: 64 }
      const config = yield* Schema.decodeUnknownEffect(llama.config)({
        ...raw,
        hidden_size: 2 ** 40,
        intermediate_size: 2 ** 40,
        vocab_size: 2 ** 40,
      })
      assert.isUndefined(Family.excess(llama, config))
      const before = process.memoryUsage()
      assert.deepStrictEqual(Family.outline(llama, config).catalog.get("model.embed_tokens.weight"), [2 ** 40, 2 ** 40])
      const after = process.memoryUsage()
      assert.isBelow(after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers, 50e6)
    }),
  )
})

describe("JSON", () => {
  it("nests so deep and no deeper", () => {
    const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth)
    assert.property(Json.parse(nested(100)), "value")
    for (const depth of [101, 200_000])
      assert.deepStrictEqual(Json.parse(nested(depth)), { problem: "nests values more than 100 deep" })
    assert.property(Json.parse('{"a":1,"a":1}'), "problem")
  })
  it("is shown cut short", () => {
    assert.strictEqual(Json.shown(undefined), "none")
    assert.strictEqual(Json.shown([1, "a"]), '[1,"a"]')
    assert.strictEqual(Json.shown("a".repeat(1000)).length, 201)
  })
})

describe("a pattern of tokenizer.json", () => {
  const make = (Regex: string) => {
    const split = { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false }
    const tokenizer = Buffer.from(JSON.stringify({ ...Sound.tokenizers()[0], pre_tokenizer: split }))
    return Tokenizer.make({ tokenizer }, { vocab_size: 64 })
  }
  for (const pattern of ["(a+)+$", "(?:\\p{L}+\\s?)*!", "a*a*a*a*b"]) {
    it.effect(`${pattern} takes time without end`, () =>
      Effect.gen(function* () {
        const { message } = yield* Effect.flip(make(pattern))
        assert.include(message, `tokenizer.json cannot be used: the pattern ${pattern}: it takes time without end`)
      }),
    )
  }
  it.effect("of a published tokenizer does not", () =>
    make(
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ),
  )
})

it.effect("a view that repeats an element beyond all memory", () =>
  Effect.gen(function* () {
    const root = yield* folder
    const tensor = (side: number) => ({ dtype: "F32", shape: [side, side], data: new Uint8Array(4) })
    const file = (side: number) =>
      write(root, "pytorch_model.bin", Torch.zipped({ weight: tensor(side) }, undefined, true))
    assert.deepStrictEqual((yield* Checkpoint.catalog(file(1024))).get("weight")!.strides, [0, 0])
    assert.match(
      (yield* Effect.flip(Checkpoint.catalog(file(1 << 20)))).message,
      /pytorch_model\.bin: tensor weight repeats 1 elements of its storage as 1099511627776; at most 1048576/,
    )
  }),
)
