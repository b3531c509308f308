/**
 * Runs in a worker: a stored tensor -> float32 in shared memory. Plain tensors are read from their file (or from bytes
 * already in memory); packed ones are decoded by their format.
 */
import * as Safetensors from "../data/Safetensors.ts"
import type { Format } from "../formats/Format.ts"
import { type Dtype, toFloat32 } from "../math/Half.ts"
import * as Slab from "./Slab.ts"

export type Bytes =
  | { readonly path: string; readonly offset: number; readonly bytes: number }
  | { readonly buffer: SharedArrayBuffer }

export interface Plain {
  readonly kind: "plain"
  readonly tensor: string
  readonly dtype: Dtype
  readonly data: Bytes
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
}

export const expand = async ({ out, recipe }: ExpandArgument): Promise<void> => {
  const target = Slab.floats(out)
  if (recipe.kind === "packed") {
    const { default: format }: { default: Format<unknown> } = await import(recipe.format)
    const { codes, cols, rows, scales, zeros } = recipe
    const encoded = { codes: new Uint8Array(codes), scales: new Uint8Array(scales), zeros: new Uint8Array(zeros) }
    format.decodeRows(encoded, { rows, cols }, recipe.params, 0, rows, target)
    return
  }
  const { data, dtype, tensor } = recipe
  if ("buffer" in data) toFloat32(dtype, new Uint8Array(data.buffer), target)
  else {
    const entry = { tensor, dtype, file: data.path, offset: data.offset, bytes: data.bytes }
    Safetensors.readFloats(entry, 0, target.length, target)
  }
}
