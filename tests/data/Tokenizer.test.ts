import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import { normalizer } from "../../src/data/tokenizer/Normalizer.ts"
import { preTokenizer } from "../../src/data/tokenizer/PreTokenizer.ts"
import {
  BadTokenizer,
  make,
  NoTokenizer,
  Unencodable,
  VocabularyMismatch,
  type ModelTokens,
} from "../../src/data/Tokenizer.ts"
import * as Mix from "./textMix.ts"

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
  it.effect("half a surrogate pair is no text", () =>
    Effect.gen(function* () {
      const { encode } = yield* open({ vocab_size: 10 })
      assert.deepStrictEqual(yield* Effect.flip(encode("a\ud83db")), new Unencodable({ text: "\ud83d" }))
    }),
  )
  it.effect("without an unknown token byte-pair encoding leaves a character out, as Python does", () =>
    Effect.gen(function* () {
      const model = { ...file.model, unk_token: null, byte_fallback: false }
      const { encode } = yield* open({ vocab_size: 10 }, { ...file, model })
      assert.deepStrictEqual([...(yield* encode("aéb"))], [9])
    }),
  )
  it.effect("a long text takes little longer than its parts", () =>
    Effect.gen(function* () {
      const { encode } = yield* open({ vocab_size: 10 })
      const ids = yield* encode("ab ".repeat(100_000))
      assert.strictEqual(ids.length, 100_001)
    }),
  )
  it.effect("added tokens swallow white space, stand alone, and hide in normalized text as they say", () =>
    Effect.gen(function* () {
      const token = (content: string, id: number, flags: object) => ({ ...file.added_tokens[0], content, id, ...flags })
      const added = [
        ...file.added_tokens,
        token("<l>", 10, { lstrip: true }),
        token("<r>", 11, { rstrip: true }),
        token("ba", 12, { single_word: true }),
        token("<n>", 13, { normalized: true }),
        token("<l><r>", 14, {}),
      ]
      const { decode, encode } = yield* open({ vocab_size: 15 }, { ...file, added_tokens: added })
      const cases: ReadonlyArray<readonly [string, ReadonlyArray<number>]> = [
        ["a \u00a0<l> a", [5, 6, 10, 5, 5, 6]],
        ["a <r>\u0085\n a", [5, 6, 5, 11, 5, 6]],
        ["ba", [12]],
        ["a ba-", [5, 6, 5, 12, 5, 0]],
        ["aba", [9, 6]],
        // Looked for as ▁<n>, which a text spells where it begins or after a space.
        ["<n>a <n>", [13, 6, 13]],
        ["a<l><r>", [5, 6, 14]],
      ]
      for (const [text, ids] of cases) assert.deepStrictEqual([...(yield* encode(text))], ids, text)
      assert.strictEqual(decode([6, 13, 14]), "a <n><l><r>")
    }),
  )
})

describe("special tokens", () => {
  const names = { bos_token: "<s>", eos_token: { __type: "AddedToken", content: "</s>" } }
  const cases: ReadonlyArray<readonly [string, ModelTokens, unknown, number | null, ReadonlyArray<number>]> = [
    [
      "BOS of tokenizer_config.json, EOS of config.json",
      { vocab_size: 10, bos_token_id: 5, eos_token_id: 6 },
      names,
      1,
      [6],
    ],
    ["of config.json", { vocab_size: 10, bos_token_id: 5, eos_token_id: 6 }, undefined, 5, [6]],
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

describe("what a text begins with", () => {
  const special = { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] }, "</s>": { id: "</s>", ids: [2, 6], tokens: [] } }
  const piece = (id: string) => ({ SpecialToken: { id, type_id: 0 } })
  const A = { Sequence: { id: "A", type_id: 0 } }
  const template = (...single: ReadonlyArray<object>) => ({
    type: "TemplateProcessing",
    single,
    pair: [],
    special_tokens: special,
  })
  const level = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true }
  const cases: ReadonlyArray<readonly [string, object | null, ReadonlyArray<number>]> = [
    ["none", null, []],
    ["ByteLevel", level, []],
    ["a template", template(piece("<s>"), A), [1]],
    ["a template with an end", template(piece("<s>"), A, piece("</s>")), [1]],
    ["a template of an end alone", template(A, piece("</s>")), []],
    ["a template of several tokens", template(piece("</s>"), piece("<s>"), A), [2, 6, 1]],
    ["a sequence", { type: "Sequence", processors: [level, template(piece("<s>"), A)] }, [1]],
    ["RobertaProcessing", { type: "RobertaProcessing", cls: ["<s>", 1], sep: ["</s>", 2] }, [1]],
  ]
  for (const [what, post_processor, prefix] of cases) {
    it.effect(`by the post-processor of tokenizer.json: ${what}`, () =>
      Effect.gen(function* () {
        // It has the last word, as in transformers.
        for (const add_bos_token of [true, false]) {
          const tokenizer = yield* open(
            { vocab_size: 10 },
            { ...file, post_processor },
            { bos_token: "<s>", add_bos_token },
          )
          assert.deepStrictEqual([...tokenizer.prefix], prefix)
        }
      }),
    )
  }
  it.effect("however much that is", () =>
    Effect.gen(function* () {
      const ids = Array.from({ length: 300_000 }, () => 1)
      const long = { ...template(piece("<s>"), A), special_tokens: { "<s>": { ids } } }
      const tokenizer = yield* open({ vocab_size: 10 }, { ...file, post_processor: long })
      assert.strictEqual(tokenizer.prefix.length, 300_000)
    }),
  )
  it.effect("not by one that is unknown or broken", () =>
    Effect.gen(function* () {
      for (const [post_processor, message] of [
        [{ type: "Other" }, /its post_processor is of the type "Other"/],
        [template(piece("[CLS]"), A), /special_tokens lacks "\[CLS\]"/],
        [template({ SpecialToken: 1 }), /TemplateProcessing: /],
      ] as const) {
        const error = yield* Effect.flip(open({ vocab_size: 10 }, { ...file, post_processor }))
        assert.instanceOf(error, BadTokenizer)
        assert.match(error.message, message)
      }
    }),
  )
})

describe("refuses", () => {
  it.effect("a folder without a tokenizer, and half of one", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* Effect.flip(make({}, { vocab_size: 9 })), new NoTokenizer({ found: [] }))
      const error = yield* Effect.flip(make({ vocabulary: bytes({}), config: bytes({}) }, { vocab_size: 9 }))
      assert.match(error.message, /vocab\.json with merges\.txt; found only vocab\.json, tokenizer_config\.json$/)
    }),
  )
  it.effect("what it does not know, by name", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [object, RegExp]> = [
        [
          { normalizer: { type: "BertNormalizer" } },
          /its normalizer is of the type "BertNormalizer"; known are Sequence/,
        ],
        [{ pre_tokenizer: { type: "UnicodeScripts" } }, /its pre_tokenizer is of the type "UnicodeScripts"/],
        [{ decoder: { type: "CTC" } }, /its decoder is of the type "CTC"/],
        [{ decoder: { type: "__proto__" } }, /its decoder is of the type "__proto__"/],
        [{ model: { ...file.model, type: "WordPiece" } }, /its model is of the type "WordPiece"/],
        [{ model: { ...file.model, dropout: 0.1 } }, /BPE: .*dropout/s],
        [{ model: { ...file.model, end_of_word_suffix: "</w>" } }, /BPE: .*end_of_word_suffix/s],
        [{ model: { ...file.model, merges: ["a c"] } }, /merge 1, "a c", has a part or a result that is no token/],
        [{ model: { ...file.model, merges: ["a"] } }, /merge 1 is "a"; expected two tokens/],
        [{ normalizer: { type: "Replace", pattern: { Regex: "(" }, content: "" } }, /the pattern \(: /],
        [{ normalizer: { type: "Precompiled", precompiled_charsmap: "AQAA" } }, /does not hold a trie/],
        [{ added_tokens: [{ id: 3, content: "ab" }] }, /the added token "ab" has the id 3; expected 8/],
        [{ added_tokens: [{ content: "ab" }] }, /added_tokens: .*id/s],
      ]
      for (const [change, message] of cases) {
        const error = yield* Effect.flip(open({ vocab_size: 99 }, { ...file, ...change }))
        assert.instanceOf(error, BadTokenizer)
        assert.match(error.message, message)
      }
    }),
  )
  it.effect("a vocabulary larger than the model's", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(open({ vocab_size: 9 }))
      assert.deepStrictEqual(error, new VocabularyMismatch({ token: "▁ab", id: 9, vocabulary: 9 }))
      assert.match(error.message, /does not match the vocabulary: ▁ab has the id 9/)
    }),
  )
  it.effect("but not an added token beyond it, which only a text that spells it can make", () =>
    Effect.gen(function* () {
      const extra = { ...file.added_tokens[0], id: 40, content: "<pad>" }
      const { encode } = yield* open({ vocab_size: 12 }, { ...file, added_tokens: [...file.added_tokens, extra] })
      assert.deepStrictEqual([...(yield* encode("<pad>"))], [40])
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

describe("10,000 generated lines", () => {
  it("are those of Python", () => {
    const all = Mix.lines()
    const digests = Array.from({ length: Mix.LINES / Mix.BLOCK }, (_, block) =>
      Mix.digest(all.slice(block * Mix.BLOCK, (block + 1) * Mix.BLOCK).map((line) => `${line}\0`)),
    )
    assert.deepStrictEqual(digests, JSON.parse(Fs.readFileSync(Mix.file("lines.json"), "utf8")))
  })

  interface Part {
    readonly key: "normalizer" | "pre_tokenizer"
    readonly config: { readonly type: string }
    readonly digests: ReadonlyArray<string>
  }
  const parts: ReadonlyArray<Part> = JSON.parse(Fs.readFileSync(Mix.file("parts.json"), "utf8"))
  it.effect.each(parts)("are normalized and cut into words as in Python: $config", ({ config, digests, key }) =>
    Effect.gen(function* () {
      const all = Mix.lines().slice(0, 2_600)
      const made =
        key === "normalizer"
          ? Effect.map(normalizer(config), (normalize) => all.map((line) => [normalize(line)]))
          : Effect.map(preTokenizer(config), (cut) =>
              all.map((text) => cut([{ text, first: true }]).map((word) => word.text)),
            )
      const bytes = (yield* made).map((pieces) => `${pieces.map((piece) => `${piece}\0`).join("")}\0`)
      assert.deepStrictEqual(
        digests.map((_, block) => Mix.digest(bytes.slice(block * 260, (block + 1) * 260))),
        digests,
      )
    }),
  )

  it.effect("are cut by the tables of Python's tokenizers, not those of this Node", () =>
    Effect.gen(function* () {
      const cut = (config: object, text: string) =>
        Effect.map(preTokenizer(config), (cut) => cut([{ text, first: true }]).map((word) => word.text))
      // No longer punctuation, and punctuation only since.
      const punctuation = { type: "Punctuation", behavior: "Isolated" }
      assert.deepStrictEqual(yield* cut(punctuation, "a\u166db\u{111c9}c"), ["a", "\u166d", "b", "\u{111c9}", "c"])
      assert.deepStrictEqual(yield* cut(punctuation, "a\u061db"), ["a\u061db"])
      // Letters of Unicode 17 are none; a byte order mark is no white space, a next line is.
      const letters = { type: "Split", pattern: { Regex: "\\p{L}" }, behavior: "Removed", invert: true }
      assert.deepStrictEqual(yield* cut(letters, "a\u{323b0}\u088fb"), ["a", "b"])
      assert.deepStrictEqual(yield* cut({ type: "WhitespaceSplit" }, "a\ufeffb\u0085c"), ["a\ufeffb", "c"])
    }),
  )

  /** What Transformers 5.23 puts before a text when it adds special tokens. */
  const begun = { falcon: [], "gpt-neox-mamba": [], llama2: [1], mistral: [1], opt: [2] }
  it.effect.each(Object.entries(begun))(
    "have Python's ids and texts: %s",
    ([name, prefix], context) =>
      Effect.gen(function* () {
        const file = Mix.real(`${name}/tokenizer.json`)
        if ("missing" in file) return context.skip(`no ${file.missing}`)
        const tokenizer = yield* make({ tokenizer: file }, { vocab_size: 65_024 })
        assert.deepStrictEqual(tokenizer.prefix, prefix)
        yield* Mix.matches(name, tokenizer)
      }),
    60_000,
  )
})
