/**
 * What has to be done to the values of a file before they are the matrix that a model's description speaks of: views of a
 * shared storage, matrices stored the other way round, and the rearrangements of llama.cpp's converter.
 */

import { gather } from "./Strided.ts"

/** `rows` below are those of the matrix, [rows, columns]; a vector has one column. */
export type Transform =
  /** A view: element (i, j, …) is at the sum of index times stride. */
  | { readonly kind: "strided"; readonly shape: ReadonlyArray<number>; readonly strides: ReadonlyArray<number> }
  /** Stored as [columns, rows]. */
  | { readonly kind: "transpose"; readonly columns: number }
  /** The rows of each head in the order of llama.cpp, which turns neighbours and not halves: 0, D/2, 1, D/2 + 1, … */
  | { readonly kind: "unpermute"; readonly heads: number }
  /**
   * Stored part after part (all queries, all keys, all values), wanted group after group, each with its share of every
   * part: `parts` are the heads of a group in each.
   */
  | { readonly kind: "regroup"; readonly groups: number; readonly parts: ReadonlyArray<number> }
  /** `value` is to be added to each element. */
  | { readonly kind: "add"; readonly value: number }
  /** Stored as -exp(x). */
  | { readonly kind: "logNegated" }

/** The values of [rows, columns] as they are wanted; `rows` is that of the result. */
export const apply = (
  transform: Transform,
  values: Float32Array<ArrayBuffer>,
  rows: number,
): Float32Array<ArrayBuffer> => {
  const columns = values.length / rows
  switch (transform.kind) {
    case "strided":
      return strided(values, transform.shape, transform.strides)
    case "transpose":
      return transpose(values, transform.columns)
    case "unpermute": {
      const dim = rows / transform.heads
      return byRow(values, rows, columns, (row) => {
        const within = row % dim
        const pair = within % (dim / 2)
        return row - within + 2 * pair + (within < dim / 2 ? 0 : 1)
      })
    }
    case "regroup": {
      const { groups, parts } = transform
      const heads = parts.reduce((sum, part) => sum + part, 0)
      const dim = rows / (groups * heads)
      const firsts = parts.map((_, i) => groups * parts.slice(0, i).reduce((sum, part) => sum + part, 0))
      return byRow(values, rows, columns, (row) => {
        const head = Math.floor(row / dim)
        const group = Math.floor(head / heads)
        let within = head % heads
        let part = 0
        while (within >= parts[part]!) within -= parts[part++]!
        return (firsts[part]! + group * parts[part]! + within) * dim + (row % dim)
      })
    }
    case "add":
      return values.map((x) => x + transform.value)
    case "logNegated":
      return values.map((x) => Math.log(-x))
  }
}

/** `from` gives for each row of the result where it is stored. */
const byRow = (values: Float32Array, rows: number, columns: number, from: (row: number) => number) => {
  const out = new Float32Array(values.length)
  for (let row = 0; row < rows; row++) {
    const at = from(row) * columns
    out.set(values.subarray(at, at + columns), row * columns)
  }
  return out
}

const transpose = (values: Float32Array, columns: number) => {
  const rows = values.length / columns
  const out = new Float32Array(values.length)
  for (let column = 0; column < columns; column++) {
    for (let row = 0; row < rows; row++) out[row * columns + column] = values[column * rows + row]!
  }
  return out
}

const strided = (values: Float32Array, shape: ReadonlyArray<number>, strides: ReadonlyArray<number>) => {
  const out = new Float32Array(shape.reduce((product, n) => product * n, 1))
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  gather(bytes, 4, shape, strides, new Uint8Array(out.buffer))
  return out
}
