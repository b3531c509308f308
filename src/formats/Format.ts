/**
 * A number format: how a matrix of weights is stored in fewer bits, and what it decodes to. One file per format, named
 * as YAML and stored artifacts name it. A format encodes and decodes; which parameters suit a tensor is a method's
 * business.
 */

/** A row-major matrix, [rows, cols]: out-features by in-features for a weight. */
export interface Shape {
  readonly rows: number
  readonly cols: number
}

/** The bytes of an encoded matrix, little-endian. A format documents the layout of each part; a part may be empty. */
export interface Encoded {
  readonly codes: Uint8Array
  readonly scales: Uint8Array
  readonly zeros: Uint8Array
}

/** `Params` is plain JSON: it is stored beside the bytes and is all that decoding needs besides them and the shape. */
export interface Format<Params> {
  readonly description: string
  /** Sizes of the three parts in bytes, known before anything is encoded. */
  readonly sizes: (shape: Shape, params: Params) => { readonly [Part in keyof Encoded]: number }
  /** `weights` has rows * cols values; throws `NonFinite` for NaN and infinities. */
  readonly encode: (weights: Float32Array, shape: Shape, params: Params) => Encoded
  /** Rows [first, last) -> the start of `out`, which holds at least that many. */
  readonly decodeRows: (
    encoded: Encoded,
    shape: Shape,
    params: Params,
    first: number,
    last: number,
    out: Float32Array,
  ) => void
}

export const make = <Params>(format: Format<Params>): Format<Params> => format

/**
 * Bits each weight really occupies: codes, scales, zero points and padding as they are stored. It counts what this
 * project writes (float32 scales, one byte per zero point), so it is a little above figures that assume float16 scales.
 */
export const effectiveBits = <Params>(format: Format<Params>, shape: Shape, params: Params): number => {
  const { codes, scales, zeros } = format.sizes(shape, params)
  return (8 * (codes + scales + zeros)) / (shape.rows * shape.cols)
}

/** The only thing asked of a format's module at run time. */
export const isFormat = (u: unknown): u is Format<any> =>
  typeof u === "object" && u !== null && "sizes" in u && "encode" in u && "decodeRows" in u
