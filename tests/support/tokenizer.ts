/**
 * A byte-level tokenizer of 64 tokens, for checkpoints that come without one: lower-case letters, digits, some
 * punctuation, and three merges, so that a prompt and its continuation need not split where they meet.
 */
import { leading } from "../../src/data/tokenizer/PostProcessor.ts"

const SPECIAL = ["<unk>", "<s>", "</s>"]
const BYTES = ["Ġ", "Ċ", ..."abcdefghijklmnopqrstuvwxyz0123456789.,:?!=+-&QAUB;()/*#C"]
const MERGED = ["th", "the", "Ġthe"]

export const tokens: ReadonlyArray<string> = [...SPECIAL, ...BYTES, ...MERGED]

const idOf = (token: string) => tokens.indexOf(token)
export const BOS = idOf("<s>")

/** The content of tokenizer.json; `changes` replaces parts of it. */
export const json = (changes: { readonly vocab?: { readonly [token: string]: number } } = {}): string =>
  JSON.stringify({
    version: "1.0",
    added_tokens: SPECIAL.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: leading("<s>", BOS),
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: "<unk>",
      fuse_unk: false,
      byte_fallback: false,
      vocab: { ...Object.fromEntries(tokens.map((token, id) => [token, id])), ...changes.vocab },
      merges: [
        ["t", "h"],
        ["th", "e"],
        ["Ġ", "the"],
      ],
    },
  })

export const decode = (ids: ReadonlyArray<number>): string =>
  ids
    .map((id) => tokens[id]!)
    .join("")
    .replaceAll("Ġ", " ")
    .replaceAll("Ċ", "\n")

/** Token ids of a text, worked out by hand: special tokens, merges, then letter by letter. */
export const encode = (text: string): ReadonlyArray<number> => {
  const ids: Array<number> = []
  let rest = text.replaceAll(" ", "Ġ").replaceAll("\n", "Ċ")
  while (rest !== "") {
    const next = [...SPECIAL, "Ġthe", "the", "th"].find((token) => rest.startsWith(token)) ?? rest[0]!
    ids.push(Math.max(0, idOf(next)))
    rest = rest.slice(next.length)
  }
  return ids
}
