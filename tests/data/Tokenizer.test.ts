import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import { BadTokenizer, make, Unencodable, VocabularyMismatch, type ModelTokens } from "../../src/data/Tokenizer.ts"

/** A byte-pair vocabulary in the manner of Llama: spaces become ▁, unknown characters their UTF-8 bytes. */
const file = {
  version: "1.0",
  added_tokens: ["<unk>", "<s>", "</s>"].map((content, id) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  })),
  normalizer: {
    type: "Sequence",
    normalizers: [
      { type: "Prepend", prepend: "▁" },
      { type: "Replace", pattern: { String: " " }, content: "▁" },
    ],
  },
  pre_tokenizer: null,
  post_processor: {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
    special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
  },
  decoder: {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: { String: "▁" }, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  },
  model: {
    type: "BPE",
    unk_token: "<unk>",
    fuse_unk: true,
    byte_fallback: true,
    vocab: { "<unk>": 0, "<s>": 1, "</s>": 2, "<0xC3>": 3, "<0xA9>": 4, "▁": 5, a: 6, b: 7, ab: 8, "▁ab": 9 },
    merges: ["a b", "▁ ab"],
  },
}
const bytes = (value: unknown) => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value))
const open = (model: ModelTokens, tokenizer: unknown = file, config: unknown = undefined) =>
  make({ tokenizer: bytes(tokenizer), config: config === undefined ? undefined : bytes(config) }, model)

describe("encode and decode", () => {
  it.effect("add no special token", () =>
    Effect.gen(function* () {
      const { encode, decode } = yield* open({ vocab_size: 10 })
      assert.deepStrictEqual([...(yield* encode("ab ab"))], [9, 9])
      assert.deepStrictEqual([...(yield* encode("ba é"))], [5, 7, 6, 5, 3, 4])
      assert.deepStrictEqual([...(yield* encode("ab</s>"))], [9, 2])
      assert.deepStrictEqual([...(yield* encode(""))], [])
      assert.strictEqual(decode([9, 9]), "ab ab")
      assert.strictEqual(decode(Int32Array.of(5, 7, 6, 5, 3, 4)), "ba é")
      assert.strictEqual(decode([1, 9, 2]), "<s> ab</s>")
      assert.strictEqual(decode([]), "")
    }),
  )
  it.effect("text outside the vocabulary is an error where there is no unknown token", () =>
    Effect.gen(function* () {
      const model = { type: "WordLevel", vocab: { red: 0, green: 1 }, unk_token: "none" }
      const words = { ...file, added_tokens: [], normalizer: null, post_processor: null, decoder: null, model }
      const { encode } = yield* open({ vocab_size: 2 }, { ...words, pre_tokenizer: { type: "WhitespaceSplit" } })
      assert.deepStrictEqual([...(yield* encode("green red"))], [1, 0])
      const error = yield* Effect.flip(encode("green blue"))
      assert.deepStrictEqual(error, new Unencodable({ text: "blue" }))
    }),
  )
})

describe("special tokens", () => {
  const names = { bos_token: "<s>", eos_token: { __type: "AddedToken", content: "</s>" } }
  const cases: ReadonlyArray<readonly [string, ModelTokens, unknown, number | null, ReadonlyArray<number>]> = [
    ["of config.json", { vocab_size: 10, bos_token_id: 5, eos_token_id: 6 }, names, 5, [6]],
    ["several of config.json", { vocab_size: 10, bos_token_id: 1, eos_token_id: [2, 6] }, names, 1, [2, 6]],
    ["of tokenizer_config.json", { vocab_size: 10 }, names, 1, [2]],
    ["null in config.json", { vocab_size: 10, bos_token_id: null, eos_token_id: null }, names, 1, [2]],
    ["nowhere", { vocab_size: 10 }, undefined, null, []],
    ["named but not in the vocabulary", { vocab_size: 10 }, { bos_token: "[CLS]", eos_token: null }, null, []],
  ]
  for (const [what, model, config, bos, eos] of cases) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const tokenizer = yield* open(model, file, config)
        assert.deepStrictEqual([tokenizer.bos, tokenizer.eos], [bos, eos])
      }),
    )
  }
})

describe("refuses", () => {
  it.effect("a vocabulary larger than the model's", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(open({ vocab_size: 9 }))
      assert.deepStrictEqual(error, new VocabularyMismatch({ token: "▁ab", id: 9, vocabulary: 9 }))
      assert.match(error.message, /does not match the vocabulary: ▁ab has the id 9/)
    }),
  )
  it.effect("an added token beyond it", () =>
    Effect.gen(function* () {
      const extra = { ...file.added_tokens[0], id: 40, content: "<pad>" }
      const error = yield* Effect.flip(
        open({ vocab_size: 12 }, { ...file, added_tokens: [...file.added_tokens, extra] }),
      )
      assert.deepStrictEqual(error, new VocabularyMismatch({ token: "<pad>", id: 40, vocabulary: 12 }))
    }),
  )
  it.effect("files that are none", () =>
    Effect.gen(function* () {
      for (const tokenizer of [
        "{",
        "[]",
        "null",
        { model: {} },
        { model: { vocab: { a: -1 } } },
        { model: { type: "Oracle", vocab: {} } },
      ]) {
        const error = yield* Effect.flip(open({ vocab_size: 9 }, tokenizer))
        assert.instanceOf(error, BadTokenizer)
        assert.match(error.message, /^tokenizer\.json cannot be used: /)
      }
      const error = yield* Effect.flip(open({ vocab_size: 9 }, file, "nonsense"))
      assert.match(error.message, /^tokenizer_config\.json cannot be used: /)
    }),
  )
})

/** Real checkpoints are too large to keep here; where a copy lies beside the project, it is used. */
const beside = new URL("../../../shared/", import.meta.url)
const stories = new URL("data/tinystories/tinystories_train_sample_2MiB.txt", beside)
/** Tokens of the first 200 stories, and SHA-256 of their ids as int32, by Python tokenizers 0.23.3. */
const counted = [
  ["llama-stories260K/hf", 81_296, "3354a6220ca4512ef1cdfed6b1ee902df5186be960001b0930570f6fd12fe67f"],
  ["llama-babyllama105/hf", 159_240, "2370cb9a425ade72b51df54f2772687c375f7add6c6333a82db7fc95b79de061"],
  ["tokenizers/llama2", 42_079, "5b0afaa251515efe00d891f8544ca1829d8adc0498ecf729bf81f6b449227aa0"],
  ["tokenizers/mistral", 40_595, "07273017802183ea5b71992b9021126260a9bc89f518fa33901cee0e2cb4ec28"],
  ["tokenizers/falcon", 39_044, "b3282b8d9cc73a91c40fc553c5987cab11bd5d286390c6d2733d6ee1781dac32"],
  ["tokenizers/gpt-neox-mamba", 38_862, "c8343a58ede417be73866b02e5a992974bf198595bd4c89307d5ca02e6da0101"],
  ["tokenizers/opt", 38_729, "53684fe167110853e62b6152479c2ff5d06e51ca3248d591c5d5ebbebcaf05b5"],
] as const

describe("real vocabularies encode as Python's", () => {
  for (const [name, count, digest] of counted) {
    const source = new URL(`models/${name}/tokenizer.json`, beside)
    it.effect(name, (context) =>
      Effect.gen(function* () {
        const missing = [source, stories].find((url) => !Fs.existsSync(url))
        if (missing !== undefined) return context.skip(`no ${fileURLToPath(missing)}`)
        const tokenizer = Fs.readFileSync(source)
        const { encode, decode } = yield* make({ tokenizer, config: undefined }, { vocab_size: 70_000 })
        const hash = createHash("sha256")
        let tokens = 0
        for (const story of Fs.readFileSync(stories, "utf8").split("<|endoftext|>").slice(0, 200)) {
          const ids = yield* encode(story)
          hash.update(ids)
          tokens += ids.length
          const back = decode(ids)
          if (!back.includes("<unk>")) assert.strictEqual(back.trim(), story.trim())
        }
        assert.deepStrictEqual([tokens, hash.digest("hex")], [count, digest])
      }),
    )
  }
})
