/**
 * Checkpoints in the safetensors format, one file or several with an index. Only headers are read here; weights stay
 * on disk until a slice is asked for. Nothing in a file is believed: every length and offset is checked against the
 * file itself.
 *
 *     file    u64 header length | header, JSON | data
 *     header  { "<tensor>": { "dtype": "F32", "shape": [rows, cols], "data_offsets": [begin, end] }, … }
 *
 * Offsets count from the start of the data, which the tensors fill without gap or overlap.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { blockOf, isDtype, toFloat32 } from "../math/Elements.ts"
import * as Json from "./Json.ts"
import * as Shards from "./Shards.ts"

/** Bytes of an element, by the names the format gives its types. */
export const DTYPE_BYTES: { readonly [dtype: string]: number } = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
}

/** The limit of the format's own implementation. */
const MAX_HEADER = 100_000_000

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
/** What the header or the index says of one tensor cannot be. */
export class BadTensor extends Schema.TaggedError<BadTensor>()("BadTensor", {
  file: Schema.String,
  tensor: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file}: tensor ${this.tensor} ${this.reason}`
  }
}
/** A tensor that is no weight: it can be catalogued, not read as float32. */
export class UnsupportedDtype extends Schema.TaggedError<UnsupportedDtype>()("UnsupportedDtype", {
  file: Schema.String,
  tensor: Schema.String,
  dtype: Schema.String,
}) {
  override get message() {
    return `${this.file}: tensor ${this.tensor} is ${this.dtype}; that is no type of weights`
  }
}

/** The catalog of a checkpoint: a `.safetensors` file, or a `.safetensors.index.json` and the files it names. */
export const read = (path: string): Effect.Effect<Catalog, Unreadable | BadFile | BadTensor> =>
  path.endsWith(".json") ? readSharded(path) : readFile(path)

/** What the file system throws, as `Unreadable`. */
export const attempt = <A>(file: string, thunk: () => A): Effect.Effect<A, Unreadable> =>
  Effect.try({ try: thunk, catch: (cause) => new Unreadable({ file, reason: (cause as Error).message }) })

/** The catalog of one `.safetensors` file. */
export const readFile = Effect.fn("Safetensors.readFile")(function* (file: string) {
  const { header, dataStart, dataBytes } = yield* Effect.scoped(readHeader(file))
  const parsed = Json.parse(header)
  if ("problem" in parsed) return yield* new BadFile({ file, reason: `has a header that ${parsed.problem}` })
  if (!Json.isRecord(parsed.value)) return yield* new BadFile({ file, reason: "has a header that is no JSON object" })
  const entries: Array<Entry> = []
  for (const [tensor, description] of Object.entries(parsed.value)) {
    if (tensor === "__metadata__") continue
    entries.push(yield* entryOf(file, tensor, description, dataStart, dataBytes))
  }
  entries.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)
  let end = dataStart
  for (const { tensor, offset, bytes } of entries) {
    if (offset !== end) {
      const reason = `begins at byte ${offset} of the file, ${offset < end ? "inside the tensor before it" : "after a gap"}; expected ${end}`
      return yield* new BadTensor({ file, tensor, reason })
    }
    end = offset + bytes
  }
  if (end !== dataStart + dataBytes) {
    return yield* new BadFile({
      file,
      reason: `has ${dataStart + dataBytes - end} bytes after its last tensor; expected none`,
    })
  }
  return new Map(entries.map((entry) => [entry.tensor, entry])) as Catalog
})

const readHeader = Effect.fnUntraced(function* (file: string) {
  const handle = yield* Effect.acquireRelease(
    attempt(file, () => Fs.openSync(file, "r")),
    (handle) => Effect.sync(() => Fs.closeSync(handle)),
  )
  const { size } = yield* attempt(file, () => Fs.fstatSync(handle))
  if (size < 8) return yield* new BadFile({ file, reason: `has ${size} bytes; a safetensors file has at least 8` })
  const prefix = new Uint8Array(8)
  yield* attempt(file, () => readFully(handle, prefix, 8, 0))
  const declared = new DataView(prefix.buffer).getBigUint64(0, true)
  if (declared > MAX_HEADER) {
    return yield* new BadFile({
      file,
      reason: `declares a header of ${declared} bytes; the format allows ${MAX_HEADER}`,
    })
  }
  const length = Number(declared)
  if (8 + length > size) {
    return yield* new BadFile({ file, reason: `declares a header of ${length} bytes but has only ${size} in all` })
  }
  const bytes = new Uint8Array(length)
  yield* attempt(file, () => readFully(handle, bytes, length, 8))
  const header = yield* Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
    catch: () => new BadFile({ file, reason: "has a header that is not UTF-8" }),
  })
  return { header, dataStart: 8 + length, dataBytes: size - 8 - length }
})

const isCount = (u: unknown): u is number => Number.isSafeInteger(u) && (u as number) >= 0

const entryOf = Effect.fnUntraced(function* (
  file: string,
  tensor: string,
  description: unknown,
  dataStart: number,
  dataBytes: number,
) {
  const bad = (reason: string) => new BadTensor({ file, tensor, reason })
  const { dtype, shape, data_offsets: offsets } = Json.isRecord(description) ? description : {}
  const size = typeof dtype === "string" && Object.hasOwn(DTYPE_BYTES, dtype) ? DTYPE_BYTES[dtype] : undefined
  if (size === undefined) {
    return yield* bad(`has the dtype ${JSON.stringify(dtype)}; known: ${Object.keys(DTYPE_BYTES).join(", ")}`)
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    return yield* bad(`has the shape ${JSON.stringify(shape)}; expected a list of sizes`)
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return yield* bad(`has the data_offsets ${JSON.stringify(offsets)}; expected [begin, end]`)
  }
  const [begin, end] = offsets as [number, number]
  const bytes = shape.reduce((product, n) => product * n, size)
  if (end - begin !== bytes) {
    return yield* bad(`spans ${end - begin} bytes; ${dtype} [${shape.join(", ")}] takes ${bytes}`)
  }
  if (end > dataBytes) return yield* bad(`ends at byte ${end} of the data, of which the file holds ${dataBytes}`)
  return {
    tensor,
    dtype: dtype as string,
    shape: shape as ReadonlyArray<number>,
    file,
    offset: dataStart + begin,
    bytes,
  }
})

/** The catalog of all files that a `model.safetensors.index.json` names; they lie beside it. */
export const readSharded = (index: string) => Shards.readSharded(index, readFile)

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
