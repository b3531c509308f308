import { assert, describe, it } from "@effect/vitest"
import { mergesOf, tokenizerJson, type Piece } from "../../src/data/SpmVocabulary.ts"

const normal = (piece: string, score: number): Piece => ({ piece, score, type: "normal" })
const joined = (pieces: ReadonlyArray<Piece>) => mergesOf(pieces).map((merge) => merge.join(" "))

describe("merges", () => {
  it("come from every cut of a piece, the best score first", () =>
    assert.deepStrictEqual(
      joined([normal("a", -9), normal("b", -9), normal("ab", -2), normal("abb", -1), normal("bb", -3)]),
      ["a bb", "ab b", "a b", "b b"],
    ))
  it("of one score are in the order of the pieces they make, then of their parts", () =>
    assert.deepStrictEqual(joined([normal("▁▁▁▁", 0), normal("▁▁", 0), normal("▁", 0), normal("▁▁▁", 0)]), [
      "▁▁ ▁▁",
      "▁ ▁▁▁",
      "▁▁▁ ▁",
      "▁ ▁",
      "▁▁ ▁",
      "▁ ▁▁",
    ]))
  it("take no markers and no bytes", () => {
    const pieces: ReadonlyArray<Piece> = [
      normal("<", 0),
      normal("s>", 0),
      { piece: "<s>", score: 0, type: "control" },
      { piece: "<unk>", score: 0, type: "unknown" },
      normal("unk>", 0),
      { piece: "<0x0A>", score: 0, type: "byte" },
      normal("0x0A>", 0),
    ]
    assert.deepStrictEqual(joined(pieces), [])
  })
  it("do not cut a character in two", () => {
    // The halves of U+1F600, which a text never has alone.
    assert.deepStrictEqual(joined([normal("\ud83d", 0), normal("\ude00", 0), normal("😀", 0)]), [])
    assert.deepStrictEqual(joined([normal("😀", 0), normal("é", 0), normal("😀é", 0)]), ["😀 é"])
  })
  it("of a vocabulary with huge pieces are found at once", () => {
    const pieces = Array.from({ length: 300 }, (_, i) => normal("x".repeat(1 + i) + "y".repeat(i * 40), -i))
    const started = performance.now()
    mergesOf([...pieces, normal("x".repeat(2_000_000), 0)])
    assert.isBelow(performance.now() - started, 5000)
  })
})

describe("a unigram vocabulary", () => {
  it("keeps its scores", () => {
    const pieces: ReadonlyArray<Piece> = [
      normal("a", -1),
      { piece: "<unk>", score: 0, type: "unknown" },
      { piece: "<s>", score: 0, type: "control" },
    ]
    const { added_tokens, model } = tokenizerJson(pieces, {
      model: "unigram",
      byteFallback: true,
      addDummyPrefix: true,
      removeExtraWhitespaces: false,
      normalizers: [],
    })
    assert.deepStrictEqual(model, {
      type: "Unigram",
      unk_id: 1,
      vocab: [
        ["a", -1],
        ["<unk>", 0],
        ["<s>", 0],
      ],
      byte_fallback: true,
    })
    assert.deepStrictEqual(
      (added_tokens as ReadonlyArray<{ id: number; special: boolean }>).map(({ id, special }) => [id, special]),
      [
        [1, true],
        [2, true],
      ],
    )
  })
})
