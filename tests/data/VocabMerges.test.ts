import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { BadTokenizer, make } from "../../src/data/Tokenizer.ts"
import * as Mix from "./textMix.ts"

const bytes = (value: unknown) => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value))
const vocabulary = { a: 0, b: 1, ab: 2, Ġ: 3, Ġab: 4, "<|endoftext|>": 5, "1": 6, Ċ: 7, B: 8 }
const merges = "#version: 0.2\na b\nĠ ab\n"
const open = (config: object = {}, changes: object = {}) =>
  make({ vocabulary: bytes(vocabulary), merges: bytes(merges), config: bytes(config), ...changes }, { vocab_size: 12 })

describe("vocab.json and merges.txt", () => {
  it.effect("make GPT-2's byte-level encoding", () =>
    Effect.gen(function* () {
      const { bos, decode, encode, eos } = yield* open({ bos_token: "<|endoftext|>", eos_token: "<|endoftext|>" })
      assert.deepStrictEqual([...(yield* encode("ab ab<|endoftext|>ab"))], [2, 4, 5, 2])
      assert.deepStrictEqual([bos, eos], [5, [5]])
      assert.strictEqual(decode([2, 4, 5]), "ab ab<|endoftext|>")
    }),
  )
  it.effect("line ends of another system are none of the merges", () =>
    Effect.gen(function* () {
      const { encode } = yield* open({}, { merges: bytes(merges.replaceAll("\n", "\r\n")) })
      assert.deepStrictEqual([...(yield* encode("ab ab"))], [2, 4])
    }),
  )
  it.effect("a space may be put before the text", () =>
    Effect.gen(function* () {
      const { encode } = yield* open({ add_prefix_space: true })
      assert.deepStrictEqual([...(yield* encode("ab"))], [4])
    }),
  )
  it.effect("Qwen2's rule takes digits one by one and leaves line breaks alone", () =>
    Effect.gen(function* () {
      const { encode } = yield* open(
        { tokenizer_class: "Qwen2TokenizerFast" },
        { merges: bytes(`${merges}1 1\n`), vocabulary: bytes({ ...vocabulary, "11": 9 }) },
      )
      assert.deepStrictEqual([...(yield* encode("11 ab\n"))], [6, 6, 4, 7])
      const gpt2 = yield* open({}, { merges: bytes(`${merges}1 1\n`), vocabulary: bytes({ ...vocabulary, "11": 9 }) })
      assert.deepStrictEqual([...(yield* gpt2.encode("11"))], [9])
    }),
  )
  it.effect("added tokens come from added_tokens.json and by name", () =>
    Effect.gen(function* () {
      const { encode } = yield* open({ pad_token: "<pad>" }, { addedTokens: bytes({ "<new>": 9 }) })
      assert.deepStrictEqual([...(yield* encode("ab<new><pad>"))], [2, 9, 10])
    }),
  )
})

describe("refuses", () => {
  const cases: ReadonlyArray<readonly [string, object, object, RegExp]> = [
    ["a line of three tokens", {}, { merges: bytes("a b c\n") }, /^merges\.txt .*line 1 is "a b c"; expected two/],
    ["a line of one", {}, { merges: bytes("#version\nab\n") }, /^merges\.txt .*line 2 is "ab"/],
    ["a merge of no tokens", {}, { merges: bytes("x y\n") }, /^vocab\.json .*merge 1/],
    ["an id that is none", {}, { vocabulary: bytes({ a: "0" }) }, /^vocab\.json .*the id of "a" is "0"/],
    ["a token twice", {}, { vocabulary: bytes(`{"a": 0, "a": 1}`) }, /^vocab\.json .*names "a" twice/],
    ["bytes that are no text", {}, { merges: Uint8Array.of(255) }, /^merges\.txt cannot be used/],
    ["an unknown class", { tokenizer_class: "CLIPTokenizer" }, {}, /^tokenizer_config\.json .*"CLIPTokenizer"; known/],
    ["a class that is none", { tokenizer_class: "constructor" }, {}, /^tokenizer_config\.json .*"constructor"; known/],
  ]
  for (const [what, config, changes, message] of cases) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(open(config, changes))
        assert.instanceOf(error, BadTokenizer)
        assert.match(error.message, message)
      }),
    )
  }
})

it.effect(
  "10,000 lines have Python's ids and texts: opt",
  (context) =>
    Effect.gen(function* () {
      const [vocabulary, merges, config] = ["vocab.json", "merges.txt", "tokenizer_config.json"].map((name) =>
        Mix.real(`opt/${name}`),
      )
      if ("missing" in vocabulary!) return context.skip(`no ${vocabulary.missing}`)
      if ("missing" in merges!) return context.skip(`no ${merges.missing}`)
      if ("missing" in config!) return context.skip(`no ${config.missing}`)
      yield* Mix.matches("opt.merges", yield* make({ vocabulary, merges, config }, { vocab_size: 50_272 }))
    }),
  60_000,
)
