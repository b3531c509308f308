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
import * as Fs from "node:fs"
import * as Json from "./Json.ts"
import * as Shards from "./Shards.ts"
import { attempt, BadFile, BadTensor, type Catalog, type Entry, readFully, type Unreadable } from "./TensorFile.ts"

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

/** The catalog of a checkpoint: a `.safetensors` file, or a `.safetensors.index.json` and the files it names. */
export const read = (path: string): Effect.Effect<Catalog, Unreadable | BadFile | BadTensor> =>
  path.endsWith(".json") ? readSharded(path) : readFile(path)

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
    return yield* bad(`has the dtype ${Json.shown(dtype)}; known: ${Object.keys(DTYPE_BYTES).join(", ")}`)
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    return yield* bad(`has the shape ${Json.shown(shape)}; expected a list of sizes`)
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return yield* bad(`has the data_offsets ${Json.shown(offsets)}; expected [begin, end]`)
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
