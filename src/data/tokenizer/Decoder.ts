/**
 * Tokens back to text. Ported from Hugging Face tokenizers (Rust), since @huggingface/tokenizers 0.2.0 drops a byte
 * order mark, decodes broken bytes otherwise, and does not join bytes across an added token.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Build, choose, type Malformed, or, part } from "./Component.ts"
import { find, Pattern, replaced } from "./Pattern.ts"
import { BYTES } from "./PreTokenizer.ts"

export type Decoder = (tokens: ReadonlyArray<string>) => ReadonlyArray<string>

const lossy = new TextDecoder("utf-8", { ignoreBOM: true })
const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true })
const utf8 = new TextEncoder()
const byteOf = new Map(BYTES.map((character, byte) => [character, byte]))

/** The bytes a token's characters stand for; a token with any other character stands for itself. */
const byteLevel: Decoder = (tokens) => {
  const bytes = tokens.flatMap((token) => {
    const own = Array.from(token, (character) => byteOf.get(character))
    return own.includes(undefined) ? [...utf8.encode(token)] : (own as Array<number>)
  })
  return [lossy.decode(Uint8Array.from(bytes))]
}

/** `<0xNN>` in a row are the bytes of a text, or as many replacement characters. */
const byteFallback: Decoder = (tokens) => {
  const out: Array<string> = []
  let bytes: Array<number> = []
  const flush = () => {
    if (bytes.length > 0) out.push(valid(Uint8Array.from(bytes)) ?? "\ufffd".repeat(bytes.length))
    bytes = []
  }
  for (const token of tokens) {
    const byte = /^<0x([0-9a-fA-F]{2})>$/.exec(token)
    if (byte) {
      bytes.push(Number.parseInt(byte[1]!, 16))
    } else {
      flush()
      out.push(token)
    }
  }
  flush()
  return out
}

const valid = (bytes: Uint8Array): string | undefined => {
  try {
    return strict.decode(bytes)
  } catch {
    return undefined
  }
}

const strip =
  (content: string, start: number, stop: number): Decoder =>
  (tokens) =>
    tokens.map((token) => {
      const characters = Array.from(token)
      let from = 0
      while (from < start && characters[from] === content) from++
      let to = characters.length
      while (characters.length - to < stop && to > from && characters[to - 1] === content) to--
      return characters.slice(from, to).join("")
    })

/** Of the first token every replacement goes, unless none was prepended. */
const metaspace =
  (replacement: string, prepended: boolean): Decoder =>
  (tokens) =>
    tokens.map((token, index) => token.replaceAll(replacement, index === 0 && prepended ? "" : " "))

const parts: { readonly [type: string]: Build<Decoder> } = {
  Sequence: part(Schema.Struct({ decoders: Schema.Array(Schema.Unknown) }), ({ decoders }) =>
    Effect.map(Effect.forEach(decoders, decoder), (all): Decoder => {
      return (tokens) => all.reduce((tokens, next) => next(tokens), tokens)
    }),
  ),
  ByteLevel: part(Schema.Struct({}), () => byteLevel),
  ByteFallback: part(Schema.Struct({}), () => byteFallback),
  Fuse: part(Schema.Struct({}), (): Decoder => (tokens) => [tokens.join("")]),
  Replace: part(Schema.Struct({ pattern: Pattern, content: Schema.String }), ({ content, pattern }) =>
    Effect.map(
      find(pattern),
      (find): Decoder =>
        (tokens) =>
          tokens.map((token) => replaced(find, token, content)),
    ),
  ),
  Strip: part(
    Schema.Struct({ content: Schema.NonEmptyString, start: Schema.Int, stop: Schema.Int }),
    ({ content, start, stop }) => strip(content, start, stop),
  ),
  Metaspace: part(
    Schema.Struct({
      replacement: Schema.NonEmptyString,
      add_prefix_space: or(Schema.Boolean),
      prepend_scheme: or(Schema.Literals(["always", "first", "never"])),
    }),
    ({ add_prefix_space: prefix, prepend_scheme: scheme, replacement }) =>
      metaspace(replacement, (scheme ?? (prefix === false ? "never" : "always")) !== "never"),
  ),
}

export const decoder: (config: unknown) => Effect.Effect<Decoder, Malformed> = choose("decoder", () => parts)
