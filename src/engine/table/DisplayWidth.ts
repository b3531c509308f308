/**
 * How much room text takes in a terminal, in columns: two for wide characters (East Asian scripts, emoji), none for
 * combining marks, one for the rest. Padding and folding by that measure. Control characters are dropped by `printable`.
 */
const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" })
// The blocks that Unicode's EastAsianWidth.txt calls Wide or Fullwidth, and characters shown as emoji.
const wide =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|^\p{Emoji_Presentation}|\ufe0f/u
const invisible = /^[\p{Mn}\p{Me}\p{Cf}\p{Cc}]+$/u

const columnsOf = (grapheme: string) => (invisible.test(grapheme) ? 0 : wide.test(grapheme) ? 2 : 1)
const split = (text: string) => Array.from(graphemes.segment(text), ({ segment }) => segment)

/** Columns that one line of text takes. */
export const displayWidth = (text: string): number =>
  /^[\x20-\x7e]*$/.test(text) ? text.length : split(text).reduce((sum, grapheme) => sum + columnsOf(grapheme), 0)

/** The text without control characters, so that a label can neither break a line nor carry an escape sequence. */
export const printable = (text: string): string => text.replace(/\p{Cc}+/gu, " ")

export const padEnd = (text: string, width: number): string =>
  text + " ".repeat(Math.max(0, width - displayWidth(text)))
export const padStart = (text: string, width: number): string =>
  " ".repeat(Math.max(0, width - displayWidth(text))) + text

/** The pieces of a label that stay on one line if they can: it may be folded after `-`, `_`, `/`, `,` and spaces. */
export const pieces = (label: string): ReadonlyArray<string> => label.split(/(?<=[-_/, ])/)

/** A piece longer than the line is cut between characters; never inside one. */
const cut = (piece: string, width: number): ReadonlyArray<string> => {
  const lines = [""]
  for (const grapheme of split(piece)) {
    const line = lines.at(-1)!
    if (line !== "" && displayWidth(line + grapheme) > width) lines.push(grapheme)
    else lines[lines.length - 1] = line + grapheme
  }
  return lines
}

const fill = (parts: ReadonlyArray<string>, width: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  for (const part of parts.flatMap((part) => (displayWidth(part.trimEnd()) > width ? cut(part, width) : [part]))) {
    const line = lines.at(-1)
    if (line === undefined || displayWidth((line + part).trimEnd()) > width) lines.push(part)
    else lines[lines.length - 1] = line + part
  }
  return lines.map((line) => line.trimEnd())
}

/** A label as lines of at most `width` columns (one column more only for a wide character in a width of one). */
export const foldLabel = (label: string, width: number): ReadonlyArray<string> => fill(pieces(label), width)
/** A sentence as lines of at most `width` columns, broken between words. */
export const foldWords = (sentence: string, width: number): ReadonlyArray<string> =>
  fill(sentence.split(/(?<= )/), width)
