/** Writing safetensors files, for tools and tests; `Safetensors.ts` describes the format. */
import type * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { DTYPE_BYTES } from "./Safetensors.ts"
import { attempt, type Unreadable } from "./TensorFile.ts"

/** A tensor to be written: raw little-endian elements, row-major. */
export interface Tensor {
  readonly dtype: string
  readonly shape: ReadonlyArray<number>
  readonly data: Uint8Array
}

/** The bytes of a file with these tensors. Same tensors, same bytes: widest elements first, then by name. */
export const encode = (tensors: { readonly [name: string]: Tensor }): Uint8Array<ArrayBuffer> => {
  const ordered = Object.entries(tensors).toSorted(
    ([a, { dtype: x }], [b, { dtype: y }]) => DTYPE_BYTES[y]! - DTYPE_BYTES[x]! || (a < b ? -1 : 1),
  )
  let end = 0
  const header = Object.fromEntries(
    ordered.map(([name, { dtype, shape, data }]) => [
      name,
      { dtype, shape, data_offsets: [end, (end += data.length)] },
    ]),
  )
  const json = new TextEncoder().encode(JSON.stringify(header))
  const start = 8 + Math.ceil(json.length / 8) * 8
  // Spaces after the header keep the data on a multiple of eight.
  const bytes = new Uint8Array(start + end).fill(0x20, 8, start)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(start - 8), true)
  bytes.set(json, 8)
  let at = start
  for (const [, { data }] of ordered) {
    bytes.set(data, at)
    at += data.length
  }
  return bytes
}

/** Write `encode(tensors)` to `file`. */
export const write = (file: string, tensors: { readonly [name: string]: Tensor }): Effect.Effect<void, Unreadable> =>
  attempt(file, () => Fs.writeFileSync(file, encode(tensors)))
