/**
 * Tensors in a file, whatever its format: where each is, what can be wrong with it, and its values. Nothing in a file is
 * believed: readers check every length and offset against the file itself.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { blockOf, isDtype, toFloat32 } from "../math/Elements.ts"

/** Where one tensor is. */
export interface Entry {
  readonly tensor: string
  readonly dtype: string
  readonly shape: ReadonlyArray<number>
  readonly file: string
  /** Of its first byte, from the start of the file. */
  readonly offset: number
  readonly bytes: number
}
/** By name, in the order of the data. */
export type Catalog = ReadonlyMap<string, Entry>

/** The file system refused. */
export class Unreadable extends Schema.TaggedError<Unreadable>()("Unreadable", {
  file: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file} cannot be read: ${this.reason}`
  }
}
/** The file as a whole is not what the format prescribes. */
export class BadFile extends Schema.TaggedError<BadFile>()("BadFile", {
  file: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file} ${this.reason}`
  }
}
/** For sentences: files may hold names of any length. */
export const named = (tensor: string): string => (tensor.length > 200 ? `${tensor.slice(0, 200)}…` : tensor)
/** What the header or the index says of one tensor cannot be. */
export class BadTensor extends Schema.TaggedError<BadTensor>()("BadTensor", {
  file: Schema.String,
  tensor: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file}: tensor ${named(this.tensor)} ${this.reason}`
  }
}
/** A tensor that is no weight: it can be catalogued, not read as float32. */
export class UnsupportedDtype extends Schema.TaggedError<UnsupportedDtype>()("UnsupportedDtype", {
  file: Schema.String,
  tensor: Schema.String,
  dtype: Schema.String,
}) {
  override get message() {
    return `${this.file}: tensor ${named(this.tensor)} is ${this.dtype}; that is no type of weights`
  }
}

/** What the file system throws, as `Unreadable`. */
export const attempt = <A>(file: string, thunk: () => A): Effect.Effect<A, Unreadable> =>
  Effect.try({ try: thunk, catch: (cause) => new Unreadable({ file, reason: (cause as Error).message }) })

/** Memory that reading takes beside the output. */
const CHUNK = 1 << 20

/**
 * Elements [first, first + count) of a tensor, flattened -> out[0, count) as float32: whole blocks, where the type has
 * them. Synchronous, for worker threads; `out` may lie in shared memory. Throws `UnsupportedDtype`, or `Unreadable` for a
 * file that has changed.
 */
export const readFloats = (entry: Omit<Entry, "shape">, first: number, count: number, out: Float32Array): void => {
  const { tensor, dtype, file, offset, bytes } = entry
  if (!isDtype(dtype)) throw new UnsupportedDtype({ file, tensor, dtype })
  const block = blockOf(dtype)
  const [start, blocks] = [first / block.elements, count / block.elements]
  const fits = first >= 0 && count >= 0 && (start + blocks) * block.bytes <= bytes && count <= out.length
  if (!fits || !Number.isInteger(start) || !Number.isInteger(blocks))
    throw new RangeError(`elements ${first} to ${first + count} of ${tensor} do not fit`)
  const chunk = new Uint8Array(Math.min(Math.floor(CHUNK / block.bytes), blocks) * block.bytes)
  withFile(file, (handle) => {
    for (let done = 0; done < blocks;) {
      const wanted = Math.min(chunk.length, (blocks - done) * block.bytes)
      const got = readFully(handle, chunk, wanted, offset + (start + done) * block.bytes)
      if (got < wanted) throw new Error(`it ends inside tensor ${tensor}`)
      toFloat32(dtype, chunk.subarray(0, wanted), out.subarray(done * block.elements))
      done += wanted / block.bytes
    }
  })
}

const withFile = (file: string, use: (handle: number) => void): void => {
  let handle: number | undefined
  try {
    handle = Fs.openSync(file, "r")
    use(handle)
  } catch (cause) {
    throw new Unreadable({ file, reason: (cause as Error).message })
  } finally {
    if (handle !== undefined) Fs.closeSync(handle)
  }
}

/** Read until `length` bytes are there or the file ends: the operating system may return less than was asked for. */
export const readFully = (handle: number, into: Uint8Array, length: number, position: number): number => {
  let got = 0
  while (got < length) {
    const read = Fs.readSync(handle, into, got, length - got, position + got)
    if (read === 0) break
    got += read
  }
  return got
}
