import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import {
  ModelProto_SentencePiece_Type as Type,
  type ModelProto,
  ModelProtoSchema,
  TrainerSpec_ModelType as ModelType,
} from "../../src/data/proto/sentencepiece_model_pb.js"
import { BadTokenizer, make } from "../../src/data/Tokenizer.ts"
import * as Mix from "./textMix.ts"

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const WORDS = ["<unk>", "<s>", "</s>", "<0x0A>", "▁", "a", "b", "ab", "▁ab", "▁▁"]
const TYPES = [Type.UNKNOWN, Type.CONTROL, Type.CONTROL, Type.BYTE]

/** A small byte-pair model; `change` may spoil it. */
const file = (change: (model: ModelProto) => void = () => {}): Uint8Array => {
  const model = create(ModelProtoSchema, {
    pieces: WORDS.map((piece, id) => ({ piece, score: -id, type: TYPES[id] ?? Type.NORMAL })),
    trainerSpec: { modelType: ModelType.BPE, byteFallback: true },
    normalizerSpec: { addDummyPrefix: true, removeExtraWhitespaces: false },
  })
  change(model)
  return toBinary(ModelProtoSchema, model)
}
const open = (sentencePiece: Uint8Array, config: object = {}, more: object = {}) =>
  make({ sentencePiece, config: json(config), ...more }, { vocab_size: 64 })
const ids = Effect.fnUntraced(function* (config: object, text: string, more: object = {}) {
  const { encode } = yield* open(file(), config, more)
  return [...(yield* encode(text))]
})

describe("the prefix", () => {
  it.effect("stands before the text and after every special token", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* ids({}, "ab</s>ab ab\n"), [8, 2, 8, 8, 3])
      assert.deepStrictEqual(yield* ids({ legacy: true }, " ab"), [4, 8])
    }),
  )
  it.effect("with legacy: false only before the text, and not before a space", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* ids({ legacy: false }, "ab</s>ab ab"), [8, 2, 7, 8])
      assert.deepStrictEqual(yield* ids({ legacy: false }, " ab"), [8])
    }),
  )
  it.effect("is left out where tokenizer_config.json says so", () =>
    Effect.gen(function* () {
      for (const legacy of [true, false]) {
        assert.deepStrictEqual(yield* ids({ legacy, add_prefix_space: false }, "ab ab"), [7, 8])
      }
    }),
  )
})

describe("tokens of the files beside it", () => {
  it.effect("have the ids of added_tokens_decoder, of added_tokens.json, or the next", () =>
    Effect.gen(function* () {
      const config = {
        tokenizer_class: "LlamaTokenizer",
        bos_token: { content: "<s>", normalized: true },
        pad_token: "<pad>",
        added_tokens_decoder: { 12: { content: "<x>", lstrip: true, special: true } },
      }
      const addedTokens = json({ "<y>": 11 })
      const specialTokens = json({ additional_special_tokens: ["<z>"] })
      const got = yield* ids(config, "ab <x><y><pad><z>", { addedTokens, specialTokens })
      assert.deepStrictEqual(got, [8, 12, 11, 13, 14])
    }),
  )
  it.effect("name the begin and the end; special_tokens_map.json has the word of an old checkpoint", () =>
    Effect.gen(function* () {
      const specialTokens = json({ bos_token: "<s>", eos_token: { content: "</s>" } })
      const { bos, eos, prefix } = yield* open(file(), { bos_token: "", eos_token: "ab" }, { specialTokens })
      assert.deepStrictEqual([bos, eos, prefix], [1, [2], [1]])
      const silent = yield* open(file(), { bos_token: "", add_bos_token: false }, { specialTokens })
      assert.deepStrictEqual([silent.bos, silent.prefix], [1, []])
    }),
  )
  it.effect("may not contradict", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [object, object, RegExp]> = [
        [{}, { addedTokens: json({ ab: 4 }) }, /^added_tokens\.json .*the id of "ab" is 4, .* it is 7$/],
        [{}, { addedTokens: json({ new: 4 }) }, /^added_tokens\.json .*the id of "new" is 4, which is that of "▁"$/],
        [{}, { addedTokens: json({ new: -1 }) }, /the id of "new" is -1; expected a whole number/],
        [{ added_tokens_decoder: { x: "t" } }, {}, /^tokenizer_config\.json .*added_tokens_decoder\["x"\] is "t"/],
        [{ added_tokens_decoder: [] }, {}, /added_tokens_decoder is no object/],
      ]
      for (const [config, more, message] of cases) {
        const error = yield* Effect.flip(open(file(), config, more))
        assert.instanceOf(error, BadTokenizer)
        assert.match(error.message, message)
      }
    }),
  )
})

describe("refuses", () => {
  const cases: ReadonlyArray<readonly [string, (model: ModelProto) => void, RegExp]> = [
    ["a model of words", ({ trainerSpec }) => (trainerSpec!.modelType = ModelType.WORD), /of the type WORD/],
    ["spaces after words", ({ trainerSpec }) => (trainerSpec!.treatWhitespaceAsSuffix = true), /spaces after words/],
    ["spaces as they are", ({ normalizerSpec }) => (normalizerSpec!.escapeWhitespaces = false), /escape_whitespaces/],
    ["no pieces", (model) => (model.pieces = []), /holds no pieces/],
    ["no unknown piece", ({ trainerSpec }) => (trainerSpec!.unkId = 7), /unk_id is 7/],
    ["a piece twice", ({ pieces }) => (pieces[6]!.piece = "a"), /the piece "a" twice/],
    ["a piece without text", ({ pieces }) => (pieces[6]!.piece = ""), /piece 6 has no text/],
    ["a score that is none", ({ pieces }) => (pieces[6]!.score = Number.NaN), /piece 6 has no text or no finite score/],
    [
      "a broken table of characters",
      ({ normalizerSpec }) => (normalizerSpec!.precompiledCharsmap = Uint8Array.of(255, 255, 0, 0, 1)),
      /does not hold a trie of 65535 bytes/,
    ],
  ]
  for (const [what, change, reason] of cases) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(open(file(change)))
        assert.match(error.message, /^tokenizer\.model cannot be used: /)
        assert.match(error.message, reason)
      }),
    )
  }
  it.effect("bytes that are no model, wherever they are cut", () =>
    Effect.gen(function* () {
      const whole = file()
      for (const bytes of [new Uint8Array(), whole.subarray(0, 40), Uint8Array.of(10, 255, 255, 255, 255, 15)]) {
        assert.match((yield* Effect.flip(open(bytes))).message, /^tokenizer\.model cannot be used: /)
      }
    }),
  )
  it.effect("a class whose rules it does not know", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(open(file(), { tokenizer_class: "XLMRobertaTokenizer" }))
      assert.match(error.message, /^tokenizer_config\.json .*"XLMRobertaTokenizer".*save tokenizer\.json/)
    }),
  )
})

describe("a unigram model", () => {
  const model = readFileSync(Mix.file("unigram.model"))
  it.effect("encodes and decodes as Python's, with a table of characters", () =>
    Effect.gen(function* () {
      assert.isAbove(fromBinary(ModelProtoSchema, model).normalizerSpec!.precompiledCharsmap.length, 0)
      yield* Mix.matches("unigram", yield* make({ sentencePiece: model }, { vocab_size: 300 }))
    }),
  )
})

describe("ChatGLM", () => {
  const config = { tokenizer_class: "ChatGLMTokenizer" }
  it.effect("has commands after its pieces, which only prompts spell", () =>
    Effect.gen(function* () {
      const { decode, encode, encodePrompt, eos, prefix } = yield* open(file(), config)
      assert.deepStrictEqual(prefix, [11, 13])
      // An answer is over where somebody else speaks.
      assert.deepStrictEqual(eos, [16, 18])
      assert.deepStrictEqual([...(yield* encode("ab[gMASK]"))], [8, 0])
      assert.deepStrictEqual([...(yield* encode("<s>ab</s>ab"))], [4, 0, 7, 2, 8])
      const prompt = yield* encodePrompt("[gMASK]sop<|user|>\nab<|assistant|>sop[MASK]")
      assert.deepStrictEqual([...prompt], [11, 13, 16, 4, 3, 7, 17, 4, 0, 10])
      // Commands are spelled out; the end is nothing, the unknown piece a sign.
      assert.strictEqual(decode([11, 13, 8, 0, 8, 2, 17, 8, 3]), "[gMASK]sopab ⁇  ab<|assistant|>ab\n")
      assert.strictEqual(decode([999]), "")
      // Only the first piece that shows loses its space.
      assert.deepStrictEqual([decode([1, 8, 8]), decode([4, 8]), decode([3, 8])], ["ab ab", " ab", "\n ab"])
    }),
  )
  it.effect("fits its vocabulary, commands included", () =>
    Effect.gen(function* () {
      const made = make({ sentencePiece: file(), config: json(config) }, { vocab_size: 18 })
      assert.match((yield* Effect.flip(made)).message, /<\|observation\|> has the id 18/)
    }),
  )
})

describe("10,000 lines have Python's ids and texts", () => {
  const cases: ReadonlyArray<readonly [golden: string, folder: string, change: object]> = [
    ["llama2.model", "llama2", {}],
    ["llama2.modern", "llama2", { legacy: false }],
    ["mistral.model", "mistral", {}],
    // ChatGLM3 has the same file.
    ["chatglm2.model", "chatglm2", {}],
  ]
  it.effect.each(cases)(
    "%s %s",
    ([golden, folder, change], context) =>
      Effect.gen(function* () {
        const sentencePiece = Mix.real(`${folder}/tokenizer.model`)
        const config = Mix.real(`${folder}/tokenizer_config.json`)
        if ("missing" in sentencePiece) return context.skip(`no ${sentencePiece.missing}`)
        if ("missing" in config) return context.skip(`no ${config.missing}`)
        const changed = json({ ...JSON.parse(new TextDecoder().decode(config)), ...change })
        const tokenizer = yield* make({ sentencePiece, config: changed }, { vocab_size: 65_024 })
        yield* Mix.matches(golden, tokenizer)
      }),
    60_000,
  )
})
