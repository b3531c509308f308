/**
 * A SentencePiece model (`tokenizer.model`) as the object of a `tokenizer.json`, as Hugging Face transformers converts
 * it: LlamaConverter for Llama's and for byte-pair models, SpmConverter for unigram models of no named class
 * (convert_slow_tokenizer.py). What the converters leave out, or what no test compares, is refused.
 */
import { create, fromBinary } from "@bufbuild/protobuf"
import * as Effect from "effect/Effect"
import { shown } from "./Json.ts"
import {
  ModelProto_SentencePiece_Type as Type,
  ModelProtoSchema,
  type NormalizerSpec,
  NormalizerSpecSchema,
  TrainerSpec_ModelType as ModelType,
  type TrainerSpec,
  TrainerSpecSchema,
} from "./proto/sentencepiece_model_pb.js"
import * as Spm from "./SpmVocabulary.ts"
import { Malformed } from "./tokenizer/Component.ts"

export interface Model {
  readonly pieces: ReadonlyArray<Spm.Piece>
  readonly trainer: TrainerSpec
  readonly normalizer: NormalizerSpec
}
export type Json = { readonly [key: string]: unknown }

const TYPES: { readonly [type in Type]: Spm.Piece["type"] } = {
  [Type.NORMAL]: "normal",
  [Type.UNKNOWN]: "unknown",
  [Type.CONTROL]: "control",
  [Type.USER_DEFINED]: "userDefined",
  [Type.UNUSED]: "unused",
  [Type.BYTE]: "byte",
}

/** The model of a file's bytes, if it is one that text can be encoded with as the converters do. */
export const read = Effect.fnUntraced(function* (bytes: Uint8Array) {
  const proto = yield* Effect.try({
    try: () => fromBinary(ModelProtoSchema, bytes),
    catch: (cause) => new Malformed({ reason: `it is no SentencePiece model: ${(cause as Error).message}` }),
  })
  const trainer = proto.trainerSpec ?? create(TrainerSpecSchema)
  const normalizer = proto.normalizerSpec ?? create(NormalizerSpecSchema)
  const pieces = proto.pieces.map(({ piece, score, type }) => ({ piece, score, type: TYPES[type] }))
  const problem = problemOf(pieces, trainer, normalizer)
  if (problem !== undefined) return yield* new Malformed({ reason: problem })
  return { pieces, trainer, normalizer } satisfies Model as Model
})

const problemOf = (
  pieces: ReadonlyArray<Spm.Piece>,
  trainer: TrainerSpec,
  normalizer: NormalizerSpec,
): string | undefined => {
  if (pieces.length === 0) return "it holds no pieces"
  if (trainer.modelType !== ModelType.BPE && trainer.modelType !== ModelType.UNIGRAM)
    return `its model is of the type ${ModelType[trainer.modelType]}; known are BPE and UNIGRAM`
  if (trainer.treatWhitespaceAsSuffix) return "it puts spaces after words (treat_whitespace_as_suffix)"
  if (!normalizer.escapeWhitespaces) return "it leaves spaces as they are (escape_whitespaces is false)"
  if (pieces[trainer.unkId]?.type !== "unknown")
    return `its unk_id is ${trainer.unkId}, which is no unknown piece of its ${pieces.length}`
  const wrong = pieces.findIndex(({ piece, score }) => piece === "" || !Number.isFinite(score))
  if (wrong !== -1) return `piece ${wrong} has no text or no finite score`
  const seen = new Set<string>()
  const twice = pieces.find(({ piece }) => seen.size === seen.add(piece).size)
  return twice === undefined ? undefined : `it has the piece ${shown(twice.piece)} twice`
}

/** The `legacy` and `add_prefix_space` of tokenizer_config.json. */
export interface Options {
  /** A space before the text and after each special token, even where there is one; else only where none begins it. */
  readonly legacy: boolean
  readonly addPrefixSpace: boolean
  /** Whether the file's settings are Llama's: those of unigram models without a class differ. */
  readonly llama: boolean
}

/** The object of a `tokenizer.json`. */
export const tokenizerJson = (model: Model, options: Options): Json => {
  const { normalizer, trainer } = model
  const bpe = trainer.modelType === ModelType.BPE
  const prefix = normalizer.addDummyPrefix && options.addPrefixSpace
  const common = {
    addDummyPrefix: prefix,
    removeExtraWhitespaces: normalizer.removeExtraWhitespaces,
    normalizers: charsmap(normalizer),
  }
  const byteFallback = trainer.byteFallback
  const json = Spm.tokenizerJson(
    model.pieces,
    bpe ? { ...common, model: "bpe", byteFallback } : { ...common, model: "unigram", byteFallback: false },
  )
  if (!bpe && !options.llama) return { ...json, ...unigram(normalizer, prefix) }
  const found = bpe ? json : { ...json, model: { ...(json["model"] as object), byte_fallback: byteFallback } }
  const decoder = { type: "Sequence", decoders: decoders(byteFallback, prefix) }
  const scheme = prefix ? "first" : "never"
  return options.legacy
    ? { ...found, decoder }
    : { ...found, decoder, normalizer: null, pre_tokenizer: metaspace(scheme, false) }
}

const charsmap = ({ precompiledCharsmap: map }: NormalizerSpec): ReadonlyArray<object> =>
  map.length === 0 ? [] : [{ type: "Precompiled", precompiled_charsmap: Buffer.from(map).toString("base64") }]

const metaspace = (scheme: "always" | "first" | "never", split: boolean) => ({
  type: "Metaspace",
  replacement: "▁",
  prepend_scheme: scheme,
  split,
})

const decoders = (byteFallback: boolean, prefix: boolean): ReadonlyArray<object> => [
  { type: "Replace", pattern: { String: "▁" }, content: " " },
  ...(byteFallback ? [{ type: "ByteFallback" }] : []),
  { type: "Fuse" },
  ...(prefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
]

/** SpmConverter: white space at the end goes, runs of spaces are one, and a space begins every piece of text. */
const unigram = (normalizer: NormalizerSpec, prefix: boolean): Json => ({
  normalizer: {
    type: "Sequence",
    normalizers: [
      ...charsmap(normalizer),
      { type: "Strip", strip_left: false, strip_right: true },
      { type: "Replace", pattern: { Regex: " {2,}" }, content: "▁" },
    ],
  },
  pre_tokenizer: metaspace(prefix ? "always" : "never", true),
  decoder: metaspace(prefix ? "always" : "never", true),
})

const lossless = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true })
/** The character that begins at `at`, or a replacement character for one byte. */
const characterAt = (bytes: ReadonlyArray<number>, at: number): readonly [text: string, width: number] => {
  const lead = bytes[at]!
  const width = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4
  try {
    return [lossless.decode(Uint8Array.from(bytes.slice(at, at + width))), width]
  } catch {
    return ["\ufffd", 1]
  }
}
const textOf = (bytes: ReadonlyArray<number>): string => {
  let out = ""
  for (let at = 0; at < bytes.length;) {
    const [text, width] = characterAt(bytes, at)
    out += text
    at += width
  }
  return out
}

/**
 * Ids back to text as SentencePiece itself does (SentencePieceProcessor::Decode): control pieces are nothing, the
 * unknown piece has a surface of its own, and the first piece that shows loses the space before it.
 */
export const decode = ({ normalizer, pieces, trainer }: Model): ((ids: ReadonlyArray<number>) => string) => {
  const strips = normalizer.addDummyPrefix || normalizer.removeExtraWhitespaces
  return (ids) => {
    let out = ""
    let bytes: Array<number> = []
    let begins = true
    for (const id of ids) {
      const found = pieces[id]
      if (found === undefined) continue
      if (found.type === "byte") {
        bytes.push(Number.parseInt(found.piece.slice(3, 5), 16))
        continue
      }
      out += textOf(bytes)
      bytes = []
      if (out !== "") begins = false
      if (found.type === "control") continue
      if (found.type === "unknown") {
        out += trainer.unkSurface
        continue
      }
      const spaced = begins && strips && found.piece.startsWith("▁")
      out += (spaced ? found.piece.slice(1) : found.piece).replaceAll("▁", " ")
      if (spaced && !normalizer.removeExtraWhitespaces) begins = false
    }
    return out + textOf(bytes)
  }
}
