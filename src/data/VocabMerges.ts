/**
 * GPT-2's two files, `vocab.json` (token -> id) and `merges.txt` (one merge a line, best first), as the object of a
 * `tokenizer.json`: byte-level byte-pair encoding, as Hugging Face transformers converts it (GPT2Converter,
 * Qwen2Converter in convert_slow_tokenizer.py).
 */
import * as Effect from "effect/Effect"
import { shown } from "./Json.ts"
import { Malformed } from "./tokenizer/Component.ts"

type Json = { readonly [key: string]: unknown }

/** Of `merges.txt`: a line of two tokens each; the first line may name the version. */
export const parseMerges = (
  text: string,
): Effect.Effect<ReadonlyArray<readonly [left: string, right: string]>, Malformed> => {
  const merges: Array<readonly [string, string]> = []
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line === "" || line.startsWith("#version")) continue
    const [left, right, ...more] = line.split(" ")
    if (!left || !right || more.length > 0) {
      const reason = `line ${index + 1} is ${shown(line)}; expected two tokens with a space between them`
      return Effect.fail(new Malformed({ reason }))
    }
    merges.push([left, right])
  }
  return Effect.succeed(merges)
}

const BYTE_LEVEL = { type: "ByteLevel", trim_offsets: true }

/** The rule of Qwen2: contractions in any case, single digits, line breaks apart from spaces. */
const QWEN2 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

type Rule = (addPrefixSpace: boolean) => { readonly normalizer: object | null; readonly pre_tokenizer: object }
const gpt2: Rule = (addPrefixSpace) => ({
  normalizer: null,
  pre_tokenizer: { ...BYTE_LEVEL, add_prefix_space: addPrefixSpace, use_regex: true },
})
const qwen2: Rule = (addPrefixSpace) => ({
  normalizer: { type: "NFC" },
  pre_tokenizer: {
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex: QWEN2 }, behavior: "Isolated", invert: false },
      { ...BYTE_LEVEL, add_prefix_space: addPrefixSpace, use_regex: false },
    ],
  },
})

/** How text is cut into words is nowhere in the two files: the class in tokenizer_config.json says it. */
const rules: ReadonlyMap<string, Rule> = new Map([
  ["CodeGenTokenizer", gpt2],
  ["GPT2Tokenizer", gpt2],
  ["Qwen2Tokenizer", qwen2],
])

/** @param config tokenizer_config.json; without a class in it the rule is GPT-2's */
export const tokenizerJson = (
  vocabulary: Json,
  merges: ReadonlyArray<readonly [left: string, right: string]>,
  config: Json,
): Effect.Effect<Json, Malformed> => {
  const named = config["tokenizer_class"] ?? "GPT2Tokenizer"
  const rule = typeof named === "string" ? rules.get(named.replace(/Fast$/, "")) : undefined
  if (rule === undefined) {
    const known = [...rules.keys()].join(", ")
    const reason = `its tokenizer_class is ${shown(named)}; known with merges.txt are ${known}`
    return Effect.fail(new Malformed({ reason: `${reason}; save tokenizer.json with the checkpoint` }))
  }
  const add_prefix_space = config["add_prefix_space"] === true
  return Effect.succeed({
    version: "1.0",
    added_tokens: [],
    ...rule(add_prefix_space),
    decoder: { ...BYTE_LEVEL, add_prefix_space, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      vocab: vocabulary,
      merges,
    },
  })
}
