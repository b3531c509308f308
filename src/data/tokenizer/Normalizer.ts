/**
 * Rewrites text before it is cut into words. Ported from Hugging Face tokenizers (Rust) where @huggingface/tokenizers
 * 0.2.0 differs: it reads no precompiled table of characters, prepends to empty text, lets `$` in a replacement stand
 * for more than itself, and strips what JavaScript takes for white space.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Charsmap from "./Charsmap.ts"
import { type Build, choose, type Malformed, part } from "./Component.ts"
import { find, Pattern, replaced } from "./Pattern.ts"

export type Normalizer = (text: string) => string

const unicode = (form: "NFC" | "NFD" | "NFKC" | "NFKD") =>
  part(Schema.Struct({}), () => (text: string) => text.normalize(form))

const parts: { readonly [type: string]: Build<Normalizer> } = {
  Sequence: part(Schema.Struct({ normalizers: Schema.Array(Schema.Unknown) }), ({ normalizers }) =>
    Effect.map(Effect.forEach(normalizers, normalizer), (all): Normalizer => {
      return (text) => all.reduce((text, next) => next(text), text)
    }),
  ),
  NFC: unicode("NFC"),
  NFD: unicode("NFD"),
  NFKC: unicode("NFKC"),
  NFKD: unicode("NFKD"),
  Replace: part(Schema.Struct({ pattern: Pattern, content: Schema.String }), ({ content, pattern }) =>
    Effect.map(
      find(pattern),
      (find): Normalizer =>
        (text) =>
          replaced(find, text, content),
    ),
  ),
  Prepend: part(Schema.Struct({ prepend: Schema.String }), ({ prepend }): Normalizer => {
    return (text) => (text === "" ? "" : prepend + text)
  }),
  Strip: part(
    Schema.Struct({ strip_left: Schema.Boolean, strip_right: Schema.Boolean }),
    ({ strip_left, strip_right }): Normalizer => {
      return (text) => {
        const right = strip_right ? text.replace(/\p{White_Space}+$/u, "") : text
        return strip_left ? right.replace(/^\p{White_Space}+/u, "") : right
      }
    },
  ),
  // One character at a time: the Greek final sigma is not told apart.
  Lowercase: part(Schema.Struct({}), (): Normalizer => {
    return (text) => Array.from(text, (character) => character.toLowerCase()).join("")
  }),
  Precompiled: part(Schema.Struct({ precompiled_charsmap: Schema.String }), ({ precompiled_charsmap }) =>
    Charsmap.parse(precompiled_charsmap),
  ),
}

export const normalizer: (config: unknown) => Effect.Effect<Normalizer, Malformed> = choose("normalizer", () => parts)
