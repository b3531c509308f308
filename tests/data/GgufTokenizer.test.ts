import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as Gguf from "../../src/data/Gguf.ts"
import { BadVocabulary, convert, type Files } from "../../src/data/GgufTokenizer.ts"
import * as Tokenizer from "../../src/data/Tokenizer.ts"
import { preTokenizer } from "../../src/data/tokenizer/PreTokenizer.ts"

type Metadata = { readonly [key: string]: Gguf.Value }
const convertOf = (metadata: Metadata) =>
  convert("model.gguf", new Map(Object.entries(metadata).map(([key, value]) => [`tokenizer.${key}`, value])))
const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const open = ({ config, tokenizer }: Files) =>
  Tokenizer.make({ tokenizer: bytes(tokenizer), config: bytes(config) }, { vocab_size: 70_000 })

/** The characters of byte-level vocabularies, by byte. */
const characters = Array.from({ length: 256 }, (_, byte) => byte).map((byte, _, all) => {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b !== 173)
  return String.fromCodePoint(printable(byte) ? byte : 256 + all.slice(0, byte).filter((b) => !printable(b)).length)
})

const llama: Metadata = {
  "ggml.model": "llama",
  "ggml.tokens": ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁ab", "  x"],
  "ggml.scores": Float32Array.of(0, 0, 0, -3, -4, -5, -1, -2, 0),
  "ggml.token_type": Int32Array.of(2, 3, 3, 1, 1, 1, 1, 1, 4),
  "ggml.bos_token_id": 1,
  "ggml.eos_token_id": 2,
  "ggml.unknown_token_id": 0,
  "ggml.padding_token_id": 2 ** 32 - 1,
}
const gpt2: Metadata = {
  "ggml.model": "gpt2",
  "ggml.pre": "gpt-2",
  "ggml.tokens": [...characters, "he", "ll", "hell", "hello", "Ġhello", "<|end|>", "<tool>", "__proto__"],
  "ggml.token_type": Int32Array.of(...characters.map(() => 1), 1, 1, 1, 1, 1, 3, 4, 5),
  "ggml.merges": ["h e", "l l", "he ll", "hell o", "Ġ hello"],
  "ggml.eos_token_id": 261,
  chat_template: "{{ messages }}",
}

describe("a SentencePiece vocabulary", () => {
  it.effect("merges by score, after a space before the text", () =>
    Effect.gen(function* () {
      const files = yield* convertOf(llama)
      assert.deepStrictEqual(files.config, {
        bos_token: "<s>",
        eos_token: "</s>",
        unk_token: "<unk>",
        clean_up_tokenization_spaces: false,
      })
      const { bos, decode, encode, eos } = yield* open(files)
      assert.deepStrictEqual([bos, eos], [1, [2]])
      assert.deepStrictEqual([...(yield* encode("ab ab"))], [7, 7])
      assert.deepStrictEqual([...(yield* encode("aab?"))], [3, 4, 6, 0])
      assert.deepStrictEqual([...(yield* encode("ab</s>"))], [7, 2])
      assert.deepStrictEqual([...(yield* encode("ab  x"))], [7, 8])
      assert.strictEqual(decode([7, 7]), "ab ab")
    }),
  )
  it.effect("without that space", () =>
    Effect.gen(function* () {
      const { decode, encode } = yield* open(yield* convertOf({ ...llama, "ggml.add_space_prefix": false }))
      assert.deepStrictEqual([...(yield* encode("ab ab"))], [6, 7])
      assert.strictEqual(decode([7, 7]), " ab ab")
    }),
  )
  it.effect("without runs of spaces", () =>
    Effect.gen(function* () {
      const spaces = { ...llama, "ggml.remove_extra_whitespaces": true }
      const { encode } = yield* open(yield* convertOf(spaces))
      assert.deepStrictEqual([...(yield* encode("   ab    ab  "))], [7, 7])
      assert.deepStrictEqual([...(yield* encode("   "))], [])
      const bare = yield* open(yield* convertOf({ ...spaces, "ggml.add_space_prefix": false }))
      assert.deepStrictEqual([...(yield* bare.encode("   ab    ab  "))], [6, 7])
    }),
  )
  it.effect("with bytes for what has no piece", () =>
    Effect.gen(function* () {
      const byte = (n: number) => `<0x${n.toString(16).toUpperCase().padStart(2, "0")}>`
      const tokens = [...(llama["ggml.tokens"] as ReadonlyArray<string>), ...characters.map((_, n) => byte(n))]
      const files = yield* convertOf({
        ...llama,
        "ggml.tokens": tokens,
        "ggml.scores": new Float32Array(tokens.length),
        "ggml.token_type": Int32Array.of(...(llama["ggml.token_type"] as Int32Array), ...characters.map(() => 6)),
      })
      const { decode, encode } = yield* open(files)
      assert.deepStrictEqual([...(yield* encode("é\n"))], [3, 9 + 0xc3, 9 + 0xa9, 9 + 10])
      assert.strictEqual(decode([3, 9 + 0xc3, 9 + 0xa9]), "é")
    }),
  )
})

describe("a byte-level vocabulary", () => {
  it.effect("merges in the order of its list", () =>
    Effect.gen(function* () {
      const files = yield* convertOf(gpt2)
      assert.deepStrictEqual(files.config, {
        eos_token: "<|end|>",
        chat_template: "{{ messages }}",
        clean_up_tokenization_spaces: false,
      })
      const { bos, decode, encode, eos } = yield* open(files)
      assert.deepStrictEqual([bos, eos], [null, [261]])
      assert.deepStrictEqual([...(yield* encode("hello hello<|end|><tool>é"))], [259, 260, 261, 262, 0xc3, 0xa9])
      assert.strictEqual(decode([259, 260, 0xc3, 0xa9]), "hello helloé")
    }),
  )
  it.effect("takes its special ids for markers where it has no types", () =>
    Effect.gen(function* () {
      const { "ggml.token_type": _, ...untyped } = gpt2
      const { encode } = yield* open(yield* convertOf(untyped))
      assert.deepStrictEqual([...(yield* encode("<|end|>"))], [261])
    }),
  )
  it.effect("takes a word that is a token whole, for llama-bpe", () =>
    Effect.gen(function* () {
      const { encode } = yield* open(yield* convertOf({ ...gpt2, "ggml.pre": "llama-bpe", "ggml.merges": [] }))
      assert.deepStrictEqual([...(yield* encode("hello"))], [259])
    }),
  )

  const golden: {
    readonly texts: ReadonlyArray<string>
    readonly words: { readonly [pre: string]: ReadonlyArray<unknown> }
  } = JSON.parse(Fs.readFileSync(new URL("../golden/gguf/words.json", import.meta.url), "utf8"))
  for (const [pre, words] of Object.entries(golden.words)) {
    it.effect(`is cut into words as by Python's tokenizers: ${pre}`, () =>
      Effect.gen(function* () {
        const { tokenizer } = yield* convertOf({ ...gpt2, "ggml.pre": pre })
        const cut = yield* preTokenizer(tokenizer["pre_tokenizer"])
        golden.texts.forEach((text, i) => {
          const found = cut([{ text, first: true }]).map((word) => word.text)
          assert.deepStrictEqual(found, words[i], JSON.stringify(text))
        })
      }),
    )
  }
})

describe("refuses", () => {
  const cases: ReadonlyArray<readonly [what: string, metadata: Metadata, message: RegExp]> = [
    ["nothing at all", {}, /tokenizer.ggml.model is missing; known: "llama", "gpt2"$/],
    ["another kind", { ...llama, "ggml.model": "t5" }, /tokenizer.ggml.model is "t5"; known/],
    ["no tokens", { ...llama, "ggml.tokens": [] }, /tokens is a list; expected a list of texts/],
    ["tokens that are numbers", { ...llama, "ggml.tokens": [1] }, /tokens is a list; expected a list of texts/],
    ["an empty token", { ...llama, "ggml.tokens": ["a", "b", ""] }, /tokens has no text for token 2/],
    ["a token twice", { ...llama, "ggml.tokens": ["a", "b", "a"] }, /tokens has "a" twice/],
    [
      "fewer scores than tokens",
      { ...llama, "ggml.scores": new Float32Array(3) },
      /scores is a list; expected 9 finite numbers/,
    ],
    ["scores that are none", { ...llama, "ggml.scores": new Float32Array(9).fill(NaN) }, /scores is a list/],
    ["fewer types than tokens", { ...llama, "ggml.token_type": new Int32Array(3) }, /token_type is a list; expected 9/],
    ["an unknown type", { ...llama, "ggml.token_type": new Int32Array(9).fill(7) }, /has 7 for token 0; known: 1 to 6/],
    ["some bytes", { ...llama, "ggml.token_type": new Int32Array(9).fill(6) }, /marks 9 bytes; expected none or 256/],
    [
      "nothing for the unknown",
      { ...llama, "ggml.token_type": new Int32Array(9).fill(1) },
      /neither bytes nor an unknown/,
    ],
    ["an id beyond the tokens", { ...llama, "ggml.bos_token_id": 9 }, /bos_token_id is 9; expected an id below 9/],
    ["an id that is text", { ...llama, "ggml.eos_token_id": "2" }, /eos_token_id is "2"/],
    [
      "a flag that is a number",
      { ...llama, "ggml.add_space_prefix": 1 },
      /add_space_prefix is 1; expected true or false/,
    ],
    ["an unknown rule", { ...gpt2, "ggml.pre": "tekken" }, /pre is "tekken"; known: default, gpt-2, .*deepseek-llm/],
    ["a rule of Object's own", { ...gpt2, "ggml.pre": "toString" }, /pre is "toString"; known/],
    [
      "a missing byte",
      { ...gpt2, "ggml.tokens": ["a"], "ggml.token_type": [1], "ggml.eos_token_id": 0 },
      /lacks the byte "ĉ"/,
    ],
    ["merges of one token", { ...gpt2, "ggml.merges": ["he"] }, /merges has "he"; expected two tokens/],
    ["merges of unknown tokens", { ...gpt2, "ggml.merges": ["he zz"] }, /merges has "he zz"/],
    ["merges into nothing", { ...gpt2, "ggml.merges": ["o h"] }, /merges has "o h"/],
    ["merges that are none", { ...gpt2, "ggml.merges": 3 }, /merges is 3; expected a list of texts/],
    ["a space before bytes", { ...gpt2, "ggml.add_space_prefix": true }, /add_space_prefix is true/],
  ]
  for (const [what, metadata, message] of cases) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(convertOf(metadata))
        assert.instanceOf(error, BadVocabulary)
        assert.match(error.message, /^model.gguf has no usable tokenizer: tokenizer\.ggml\./)
        assert.match(error.message, message)
      }),
    )
  }
})

/** Real vocabularies, where they lie beside the project. */
const beside = new URL("../../../shared/", import.meta.url)
const stories = new URL("data/tinystories/tinystories_train_sample_2MiB.txt", beside)
const missing = (...urls: ReadonlyArray<URL>) => urls.find((url) => !Fs.existsSync(url))
const linesOf = (count: number) =>
  Fs.readFileSync(stories, "utf8")
    .split("\n")
    .filter((line) => line.trim() !== "")
    .slice(0, count)

describe("a real model", () => {
  it.effect("encodes as its tokenizer.json", (context) =>
    Effect.gen(function* () {
      const gguf = new URL("models/llama-stories260K/stories260K-f32.gguf", beside)
      const json = new URL("models/llama-stories260K/hf/tokenizer.json", beside)
      const absent = missing(gguf, json, stories)
      if (absent !== undefined) return context.skip(`no ${fileURLToPath(absent)}`)
      const { metadata } = yield* Gguf.read(fileURLToPath(gguf))
      const files = yield* convert("model.gguf", metadata)
      const expected = JSON.parse(Fs.readFileSync(json, "utf8"))
      const pairs = expected.model.merges.map((merge: string | Array<string>) =>
        typeof merge === "string" ? merge.split(" ") : merge,
      )
      assert.deepStrictEqual((files.tokenizer["model"] as { merges: unknown }).merges, pairs)
      const mine = yield* open(files)
      const theirs = yield* Tokenizer.make({ tokenizer: bytes(expected), config: undefined }, { vocab_size: 512 })
      assert.deepStrictEqual([mine.bos, mine.eos], [1, [2]])
      let tokens = 0
      for (const line of [...linesOf(500), "  spaces   ", "ünknown 漢字 \t tab", "<s>x</s>", "a▁b"]) {
        const ids = yield* mine.encode(line)
        assert.deepStrictEqual([...ids], [...(yield* theirs.encode(line))], line)
        assert.strictEqual(mine.decode(ids), theirs.decode(ids))
        tokens += ids.length
      }
      assert.isAbove(tokens, 10_000)
    }),
  )

  /** What llama.cpp's converter writes for a tokenizer.json. */
  const metadataOf = (json: any, pre: string): Metadata => {
    const added = new Map<string, { special: boolean }>(json.added_tokens.map((token: any) => [token.content, token]))
    const ids = new Map<string, number>([
      ...(Object.entries(json.model.vocab) as Array<[string, number]>),
      ...json.added_tokens.map((token: any) => [token.content, token.id] as const),
    ])
    const tokens = [...ids].toSorted(([, a], [, b]) => a - b).map(([token]) => token)
    return {
      "ggml.model": "gpt2",
      "ggml.pre": pre,
      "ggml.tokens": tokens,
      "ggml.token_type": tokens.map((token) => (added.has(token) ? (added.get(token)!.special ? 3 : 4) : 1)),
      "ggml.merges": json.model.merges.map((merge: string | Array<string>) =>
        typeof merge === "string" ? merge : merge.join(" "),
      ),
    }
  }
  for (const [name, pre] of [
    ["falcon", "falcon"],
    ["gpt-neox-mamba", "olmo"],
    ["opt", "gpt-2"],
  ] as const) {
    it.effect(`encodes as its tokenizer.json: the vocabulary of ${name}`, (context) =>
      Effect.gen(function* () {
        const url = new URL(`models/tokenizers/${name}/tokenizer.json`, beside)
        const absent = missing(url, stories)
        if (absent !== undefined) return context.skip(`no ${fileURLToPath(absent)}`)
        const json = JSON.parse(Fs.readFileSync(url, "utf8"))
        const mine = yield* open(yield* convertOf(metadataOf(json, pre)))
        const theirs = yield* Tokenizer.make({ tokenizer: bytes(json), config: undefined }, { vocab_size: 70_000 })
        const odd = ["1234567 12 in 1999, x+=y|`z` 3.14", "cafe\u0301 漢字 “q” \t\n\n  é 😀", "it's  WE'LL  \r\n end "]
        for (const line of [...linesOf(200), ...odd]) {
          const ids = yield* mine.encode(line)
          assert.deepStrictEqual([...ids], [...(yield* theirs.encode(line))], line)
          assert.strictEqual(mine.decode(ids), theirs.decode(ids))
        }
      }),
    )
  }
})
