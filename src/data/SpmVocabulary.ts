/**
 * A SentencePiece vocabulary as the object of a `tokenizer.json`. SentencePiece merges, of all neighbouring pieces, those
 * whose union scores best; byte-pair encoding applies a ranked list of merges. So the list is every way to cut a piece
 * into two others, ranked by its score: what Hugging Face transformers writes (convert_slow_tokenizer.py, LlamaConverter
 * and generate_merges).
 */

/** One entry of the vocabulary; its position is its id, `▁` stands for a space. */
export interface Piece {
  readonly piece: string
  readonly score: number
  readonly type: "normal" | "unknown" | "control" | "userDefined" | "unused" | "byte"
}

export interface Options {
  readonly model: "bpe" | "unigram"
  /** A character without a piece becomes the pieces `<0xNN>` of its UTF-8 bytes. */
  readonly byteFallback: boolean
  /** Text is encoded as if a space stood before it. */
  readonly addDummyPrefix: boolean
  /** Spaces at both ends are dropped, runs of spaces become one. */
  readonly removeExtraWhitespaces: boolean
  /** Normalizers of a `tokenizer.json` that come before the treatment of spaces. */
  readonly normalizers: ReadonlyArray<object>
}

/** @param pieces no two of the same text: a vocabulary is a table from text to id */
export const tokenizerJson = (pieces: ReadonlyArray<Piece>, options: Options): { readonly [key: string]: unknown } => ({
  version: "1.0",
  truncation: null,
  padding: null,
  added_tokens: addedTokens(pieces),
  normalizer: { type: "Sequence", normalizers: [...options.normalizers, ...spaces(options)] },
  pre_tokenizer: null,
  decoder: {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: { String: "▁" }, content: " " },
      ...(options.byteFallback ? [{ type: "ByteFallback" }] : []),
      { type: "Fuse" },
      ...(options.addDummyPrefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
    ],
  },
  model: (options.model === "bpe" ? bpe : unigram)(pieces, options.byteFallback),
})

/** Pieces that are never made from text by merging; control pieces are special, those a user defined are not. */
const addedTokens = (pieces: ReadonlyArray<Piece>): ReadonlyArray<object> =>
  pieces.flatMap(({ piece, type }, id) =>
    type === "unknown" || type === "control" || type === "userDefined"
      ? [
          {
            id,
            content: piece,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: type !== "userDefined",
          },
        ]
      : [],
  )

const replace = (pattern: object, content: string): object => ({ type: "Replace", pattern, content })

/** The prefix is a space until runs of spaces have become one, so that text of nothing but spaces becomes empty. */
const spaces = ({ addDummyPrefix, removeExtraWhitespaces }: Options): ReadonlyArray<object> => {
  if (!removeExtraWhitespaces) {
    const prefix = addDummyPrefix ? [{ type: "Prepend", prepend: "▁" }] : []
    return [...prefix, replace({ String: " " }, "▁")]
  }
  return [
    addDummyPrefix ? { type: "Prepend", prepend: " " } : replace({ Regex: "\\A +" }, ""),
    replace({ Regex: " {2,}" }, " "),
    replace({ Regex: " +\\z" }, ""),
    replace({ String: " " }, "▁"),
  ]
}

const unknownOf = (pieces: ReadonlyArray<Piece>): number => pieces.findIndex(({ type }) => type === "unknown")

const unigram = (pieces: ReadonlyArray<Piece>, byteFallback: boolean): object => {
  const unknown = unknownOf(pieces)
  return {
    type: "Unigram",
    unk_id: unknown === -1 ? null : unknown,
    vocab: pieces.map(({ piece, score }) => [piece, score]),
    byte_fallback: byteFallback,
  }
}

const bpe = (pieces: ReadonlyArray<Piece>, byteFallback: boolean): object => ({
  type: "BPE",
  dropout: null,
  unk_token: pieces[unknownOf(pieces)]?.piece ?? null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
  fuse_unk: true,
  byte_fallback: byteFallback,
  ignore_merges: false,
  vocab: Object.fromEntries(pieces.map(({ piece }, id) => [piece, id])),
  merges: mergesOf(pieces),
})

/** The second half of a surrogate pair. */
const isTail = (unit: number): boolean => (unit & 0xfc00) === 0xdc00

/**
 * Every cut of a piece into two others, best first: by the score of the whole, then by ids. That is the order of Mistral's
 * published list; Llama 2's ranks equal scores by their parts first, which gives the same ids there but not in general.
 * Markers and bytes take no part in merging.
 */
export const mergesOf = (pieces: ReadonlyArray<Piece>): ReadonlyArray<readonly [left: string, right: string]> => {
  const ids = new Map<string, number>()
  const lengths = new Set<number>()
  pieces.forEach(({ piece, type }, id) => {
    if (type !== "normal" && type !== "userDefined" && type !== "unused") return
    ids.set(piece, id)
    lengths.add(piece.length)
  })
  const cuts: Array<readonly [left: number, right: number, whole: number]> = []
  for (const [piece, whole] of ids) {
    for (let at = 1; at < piece.length; at++) {
      // Slices are looked up only where a piece of that length exists: else one huge piece takes forever.
      if (!lengths.has(at) || !lengths.has(piece.length - at) || isTail(piece.charCodeAt(at))) continue
      const left = ids.get(piece.slice(0, at))
      const right = left === undefined ? undefined : ids.get(piece.slice(at))
      if (right !== undefined) cuts.push([left!, right, whole])
    }
  }
  const score = Float64Array.from(pieces, (piece) => piece.score)
  return cuts
    .toSorted(([a, b, whole], [c, d, other]) => score[other]! - score[whole]! || whole - other || a - c || b - d)
    .map(([left, right]) => [pieces[left]!.piece, pieces[right]!.piece])
}
