/**
 * Runs in a worker: a stored tensor -> float32 in shared memory. Plain tensors are read from their file (or from bytes
 * already in memory); packed ones are decoded by their format.
 */
import * as TensorFile from "../data/TensorFile.ts"
import type { Format } from "../formats/Format.ts"
import { blockOf, type Dtype, toFloat32 } from "../math/Elements.ts"
import * as Transform from "../math/Transform.ts"
import * as Slab from "./Slab.ts"

export type Bytes =
  | { readonly path: string; readonly offset: number; readonly bytes: number }
  | { readonly buffer: SharedArrayBuffer }

export interface Plain {
  readonly kind: "plain"
  readonly tensor: string
  readonly dtype: Dtype
  readonly data: Bytes
  /** What makes the stored values those of the tensor, in this order. */
  readonly transforms: ReadonlyArray<Transform.Transform>
}
export interface Packed {
  readonly kind: "packed"
  readonly tensor: string
  /** URL of the format's module in `src/formats/`. */
  readonly format: string
  readonly params: unknown
  readonly rows: number
  readonly cols: number
  readonly codes: SharedArrayBuffer
  readonly scales: SharedArrayBuffer
  readonly zeros: SharedArrayBuffer
}
/** How to make a tensor's float32 values from what is stored. */
export type Recipe = Plain | Packed

export interface ExpandArgument {
  readonly recipe: Recipe
  readonly out: Slab.Slab
  /** Rows that are needed, ascending; without it all are. */
  readonly rows?: Int32Array | undefined
}

export const expand = async ({ out, recipe, rows }: ExpandArgument): Promise<void> => {
  const target = Slab.floats(out)
  const columns = target.length / out.dims[0]!
  const read = await reader(recipe)
  if (recipe.kind === "plain" && recipe.transforms.length > 0) {
    const stored = new Float32Array(elements(recipe))
    read(0, 1, stored.length, stored)
    target.set(
      recipe.transforms.reduce((values, transform) => Transform.apply(transform, values, out.dims[0]!), stored),
    )
    return
  }
  for (const [first, last] of rows === undefined ? [[0, out.dims[0]!] as const] : ranges(rows)) {
    read(first, last, columns, target.subarray(first * columns, last * columns))
  }
}

/** Rows [first, last) of so many columns -> out. */
type Read = (first: number, last: number, columns: number, out: Float32Array) => void

const reader = async (recipe: Recipe): Promise<Read> => {
  if (recipe.kind === "packed") {
    const { default: format }: { default: Format<unknown> } = await import(recipe.format)
    const { codes, cols, rows, scales, zeros } = recipe
    const encoded = { codes: new Uint8Array(codes), scales: new Uint8Array(scales), zeros: new Uint8Array(zeros) }
    return (first, last, _columns, out) => format.decodeRows(encoded, { rows, cols }, recipe.params, first, last, out)
  }
  const { data, dtype, tensor } = recipe
  if ("buffer" in data) {
    const stored = new Uint8Array(data.buffer)
    const block = blockOf(dtype)
    const byte = (element: number) => (element / block.elements) * block.bytes
    return (first, last, columns, out) =>
      toFloat32(dtype, stored.subarray(byte(first * columns), byte(last * columns)), out)
  }
  const entry = { tensor, dtype, file: data.path, offset: data.offset, bytes: data.bytes }
  return (first, last, columns, out) => TensorFile.readFloats(entry, first * columns, (last - first) * columns, out)
}

/** Elements that are stored; of a view those that it spans. */
const elements = ({ data, dtype }: Plain): number => {
  const block = blockOf(dtype)
  return (("buffer" in data ? data.buffer.byteLength : data.bytes) / block.bytes) * block.elements
}

/** Ascending rows as ranges [first, last) of neighbours. */
const ranges = (rows: Int32Array): ReadonlyArray<readonly [number, number]> => {
  const found: Array<[number, number]> = []
  for (const row of rows) {
    const range = found.at(-1)
    if (range?.[1] === row) range[1] = row + 1
    else found.push([row, row + 1])
  }
  return found
}
