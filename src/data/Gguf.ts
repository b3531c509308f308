/**
 * Checkpoints in the GGUF format of llama.cpp, versions 2 and 3, little-endian. Only the header is read here, in pieces;
 * weights stay on disk. Nothing in a file is believed: every length and offset is checked against the file itself before
 * anything is allocated.
 *
 *     file    "GGUF" | u32 version | u64 tensors | u64 keys | keys | tensors | padding | data
 *     key     string name | u32 type | value; an array is u32 type | u64 count | values
 *     tensor  string name | u32 n | n x u64 size, innermost first | u32 ggml type | u64 offset
 *     string  u64 bytes | UTF-8
 *
 * Offsets count from the start of the data; they and the data are aligned to `general.alignment` bytes. Specification:
 * docs/gguf.md of ggml.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { blockOf, DTYPES } from "../math/Ggml.ts"
import { BadFile, BadTensor, readFully, Unreadable, type Catalog, type Entry } from "./TensorFile.ts"

type Scalar = number | bigint | boolean | string
type Numbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
/** Of 64-bit integers those beyond 2^53 are bigint; arrays of narrower numbers are typed arrays. */
export type Value = Scalar | ReadonlyArray<Scalar> | Numbers

export interface Gguf {
  /** By key, in the order of the file. */
  readonly metadata: ReadonlyMap<string, Value>
  /** Shapes are row-major, outermost first; a dtype is the name of a ggml type, see `Ggml.ts`. */
  readonly catalog: Catalog
}

/** The key-value pairs and the catalog of one `.gguf` file. */
export const read = Effect.fn("Gguf.read")(function* (file: string) {
  return yield* Effect.try({ try: () => readFile(file), catch: expected })
})

/** What `readFile` throws of itself; anything else is a bug and stays one. */
const expected = (cause: unknown): Unreadable | BadFile | BadTensor => {
  if (cause instanceof Unreadable || cause instanceof BadFile || cause instanceof BadTensor) return cause
  throw cause
}

/** Ten times what the largest vocabularies take; a header is decoded into memory, so it needs a limit. */
const MAX_HEADER = 100_000_000
/** Read at once. */
const CHUNK = 1 << 20
const DEFAULT_ALIGNMENT = 32
/** The limit of the format for keys; tensors have shorter names still. */
const MAX_NAME = 65_535
const MAX_DIMENSIONS = 4

/** ggml's numbers of its types. Those without a name here were removed from ggml. */
const GGML_TYPES: { readonly [id: number]: string } = {
  0: "F32",
  1: "F16",
  2: "Q4_0",
  3: "Q4_1",
  6: "Q5_0",
  7: "Q5_1",
  8: "Q8_0",
  9: "Q8_1",
  10: "Q2_K",
  11: "Q3_K",
  12: "Q4_K",
  13: "Q5_K",
  14: "Q6_K",
  15: "Q8_K",
  16: "IQ2_XXS",
  17: "IQ2_XS",
  18: "IQ3_XXS",
  19: "IQ1_S",
  20: "IQ4_NL",
  21: "IQ3_S",
  22: "IQ2_S",
  23: "IQ4_XS",
  24: "I8",
  25: "I16",
  26: "I32",
  27: "I64",
  28: "F64",
  29: "IQ1_M",
  30: "BF16",
  34: "TQ1_0",
  35: "TQ2_0",
  39: "MXFP4",
  40: "NVFP4",
  41: "Q1_0",
}

const readFile = (file: string): Gguf => {
  const handle = attempt(file, () => Fs.openSync(file, "r"))
  try {
    const { size } = attempt(file, () => Fs.fstatSync(handle))
    const header = new Header(file, handle, size)
    checkVersion(header)
    const tensors = header.count("tensors", 24)
    const keys = header.count("keys", 13)
    const metadata = readMetadata(header, keys)
    checkWhole(file, metadata)
    return { metadata, catalog: readCatalog(header, tensors, alignmentOf(file, metadata)) }
  } finally {
    Fs.closeSync(handle)
  }
}

const attempt = <A>(file: string, thunk: () => A): A => {
  try {
    return thunk()
  } catch (cause) {
    throw new Unreadable({ file, reason: (cause as Error).message })
  }
}

/** A byte order mark is part of a token like any other character. */
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** Reads on from where it stands; of the file, only a window is in memory. */
class Header {
  readonly file: string
  readonly size: number
  readonly #handle: number
  #window = new Uint8Array(0)
  #view = new DataView(this.#window.buffer)
  /** Of the window, in the file. */
  #start = 0
  /** In the window. */
  #at = 0

  constructor(file: string, handle: number, size: number) {
    this.file = file
    this.#handle = handle
    this.size = size
  }

  get position(): number {
    return this.#start + this.#at
  }

  bad(reason: string): BadFile {
    return new BadFile({ file: this.file, reason })
  }

  /** Index in the window of the next `length` bytes, which are then passed. */
  #take(length: number, what: string): number {
    const { position } = this
    const end = position + length
    if (end > this.size) throw this.bad(`ends inside ${what}: byte ${end} is needed, it has ${this.size}`)
    if (end > MAX_HEADER) throw this.bad(`has a header of more than ${MAX_HEADER} bytes, read up to ${what}`)
    if (this.#at + length > this.#window.length) {
      const wanted = Math.min(Math.max(length, CHUNK), this.size - position)
      const window = new Uint8Array(wanted)
      const got = attempt(this.file, () => readFully(this.#handle, window, wanted, position))
      if (got < wanted)
        throw new Unreadable({ file: this.file, reason: `it shrank to ${position + got} bytes meanwhile` })
      this.#window = window
      this.#view = new DataView(window.buffer)
      this.#start = position
      this.#at = 0
    }
    const at = this.#at
    this.#at += length
    return at
  }

  bytes(length: number, what: string): Uint8Array {
    const at = this.#take(length, what)
    return this.#window.subarray(at, at + length)
  }
  u32(what: string): number {
    const at = this.#take(4, what)
    return this.#view.getUint32(at, true)
  }
  u64(what: string): bigint {
    const at = this.#take(8, what)
    return this.#view.getBigUint64(at, true)
  }
  /** How many things of at least `least` bytes follow. */
  count(what: string, least: number): number {
    const declared = this.u64(`the number of ${what}`)
    const left = this.size - this.position
    if (declared * BigInt(least) > left)
      throw this.bad(`declares ${declared} ${what} of at least ${least} bytes each, but only ${left} bytes follow`)
    return Number(declared)
  }
  /** Of a key or a tensor: errors repeat it. */
  name(what: string): string {
    const before = this.position
    const name = this.string(`the name of a ${what}`)
    if (this.position - before - 8 > MAX_NAME)
      throw this.bad(`has the name of a ${what} of more than ${MAX_NAME} bytes`)
    return name
  }
  string(what: string): string {
    const length = this.count(`bytes of ${what}`, 1)
    const bytes = this.bytes(length, what)
    try {
      return UTF8.decode(bytes)
    } catch {
      throw this.bad(`has ${what} that is not UTF-8`)
    }
  }
}

const checkVersion = (header: Header): void => {
  if (header.size < 24) throw header.bad(`has ${header.size} bytes; a GGUF file has at least 24`)
  const magic = header.bytes(4, "its magic")
  if (String.fromCharCode(...magic) !== "GGUF")
    throw header.bad(`begins with the bytes ${[...magic].join(", ")}; a GGUF file begins with "GGUF"`)
  const version = header.u32("its version")
  // The version of a big-endian file, read the wrong way round, has empty lower bytes.
  if ((version & 0xffff) === 0) throw header.bad("is big-endian; only little-endian GGUF can be read: convert it again")
  if (version === 1) throw header.bad("is of GGUF version 1, which is obsolete; known: 2 and 3: convert it again")
  if (version !== 2 && version !== 3) throw header.bad(`is of GGUF version ${version}; known: 2 and 3`)
}

const narrow = (value: bigint): number | bigint =>
  value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value

/** Little-endian numbers of a fixed size; the processors Node runs on are little-endian too. */
interface NumberType {
  readonly bytes: number
  readonly values: (stored: Uint8Array) => ReadonlyArray<Scalar> | Numbers
}
const STRING = 8
const ARRAY = 9
/** By their numbers in the file. */
const NUMBER_TYPES: { readonly [type: number]: NumberType } = {
  0: { bytes: 1, values: (stored) => stored },
  1: { bytes: 1, values: ({ buffer }) => new Int8Array(buffer) },
  2: { bytes: 2, values: ({ buffer }) => new Uint16Array(buffer) },
  3: { bytes: 2, values: ({ buffer }) => new Int16Array(buffer) },
  4: { bytes: 4, values: ({ buffer }) => new Uint32Array(buffer) },
  5: { bytes: 4, values: ({ buffer }) => new Int32Array(buffer) },
  6: { bytes: 4, values: ({ buffer }) => new Float32Array(buffer) },
  7: { bytes: 1, values: (stored) => Array.from(stored, (byte) => byte === 1) },
  10: { bytes: 8, values: ({ buffer }) => Array.from(new BigUint64Array(buffer), narrow) },
  11: { bytes: 8, values: ({ buffer }) => Array.from(new BigInt64Array(buffer), narrow) },
  12: { bytes: 8, values: ({ buffer }) => new Float64Array(buffer) },
}
const BOOL = 7

const readNumbers = (header: Header, type: number, count: number, what: string) => {
  const known = NUMBER_TYPES[type]
  if (known === undefined)
    throw header.bad(`has ${what} of the type ${type}; known are 0 to 12, and no arrays of arrays`)
  // A copy, so that it is aligned and outlives the window.
  const stored = header.bytes(count * known.bytes, what).slice()
  if (type === BOOL && stored.some((byte) => byte > 1)) throw header.bad(`has ${what} that is neither true nor false`)
  return known.values(stored)
}

const readArray = (header: Header, what: string): Value => {
  const type = header.u32(what)
  const count = header.count(`values of ${what}`, type === STRING ? 8 : (NUMBER_TYPES[type]?.bytes ?? 1))
  if (type !== STRING) return readNumbers(header, type, count, what)
  const strings: Array<string> = []
  for (let i = 0; i < count; i++) strings.push(header.string(what))
  return strings
}

const readValue = (header: Header, what: string): Value => {
  const type = header.u32(what)
  if (type === STRING) return header.string(what)
  if (type === ARRAY) return readArray(header, what)
  return readNumbers(header, type, 1, what)[0]!
}

const readMetadata = (header: Header, keys: number): ReadonlyMap<string, Value> => {
  const metadata = new Map<string, Value>()
  for (let i = 0; i < keys; i++) {
    const key = header.name("key")
    if (metadata.has(key)) throw header.bad(`has the key ${JSON.stringify(key)} twice`)
    metadata.set(key, readValue(header, `the key ${JSON.stringify(key)}`))
  }
  return metadata
}

const alignmentOf = (file: string, metadata: Gguf["metadata"]): number => {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT
  if (typeof alignment !== "number" || alignment < 8 || !Number.isInteger(Math.log2(alignment))) {
    const reason = `has the general.alignment ${String(alignment)}; expected a power of two from 8 on`
    throw new BadFile({ file, reason })
  }
  return alignment
}

/** llama.cpp splits large models into files each with a header of its own. */
const checkWhole = (file: string, metadata: Gguf["metadata"]): void => {
  const parts = metadata.get("split.count") ?? 0
  if (parts !== 0 && parts !== 1) {
    const reason = `is one of ${String(parts)} parts of a model; join them with \`llama-gguf-split --merge\``
    throw new BadFile({ file, reason })
  }
}

const readCatalog = (header: Header, tensors: number, alignment: number): Catalog => {
  const { file, size } = header
  const names = new Set<string>()
  const described: Array<Omit<Entry, "file">> = []
  for (let i = 0; i < tensors; i++) {
    const tensor = header.name("tensor")
    if (names.has(tensor)) throw header.bad(`has the tensor ${JSON.stringify(tensor)} twice`)
    names.add(tensor)
    described.push(readTensor(header, tensor, alignment))
  }
  const dataStart = Math.ceil(header.position / alignment) * alignment
  const entries = described
    .map((entry): Entry => ({ ...entry, file, offset: dataStart + entry.offset }))
    .toSorted((a, b) => a.offset - b.offset || a.bytes - b.bytes)
  let end = dataStart
  for (const { tensor, offset, bytes } of entries) {
    if (offset < end) {
      const reason = `begins at byte ${offset} of the file, inside the tensor before it, which ends at ${end}`
      throw new BadTensor({ file, tensor, reason })
    }
    end = offset + bytes
    if (end > size) throw new BadTensor({ file, tensor, reason: `ends at byte ${end} of the file, which has ${size}` })
  }
  return new Map(entries.map((entry) => [entry.tensor, entry]))
}

/** The offset still counts from the start of the data. */
const readTensor = (header: Header, tensor: string, alignment: number): Omit<Entry, "file"> => {
  const bad = (reason: string) => new BadTensor({ file: header.file, tensor, reason })
  const what = `tensor ${tensor}`
  const dimensions = header.u32(what)
  if (dimensions > MAX_DIMENSIONS) throw bad(`has ${dimensions} dimensions; ggml allows ${MAX_DIMENSIONS}`)
  const sizes = Array.from({ length: dimensions }, () => header.u64(what))
  // No type has more than eight elements a byte.
  if (sizes.some((size) => size > header.size * 8))
    throw bad(`has the sizes [${sizes.join(", ")}], more than the file could hold`)
  const shape = sizes.map(Number).toReversed()
  const type = header.u32(what)
  const name = GGML_TYPES[type]
  const block = name === undefined ? undefined : blockOf(name)
  if (name === undefined || block === undefined) {
    const said = name === undefined ? `the unknown ggml type ${type}` : `the ggml type ${name}, which is not supported`
    throw bad(`has ${said}; known: ${DTYPES.join(", ")}`)
  }
  const row = shape.at(-1) ?? 1
  if (row % block.elements !== 0) throw bad(`has rows of ${row} elements; blocks of ${name} have ${block.elements}`)
  const offset = header.u64(what)
  if (offset > header.size) throw bad(`begins at byte ${offset} of the data; the file has ${header.size}`)
  if (Number(offset) % alignment !== 0)
    throw bad(`begins at byte ${offset} of the data; expected a multiple of ${alignment}`)
  // A product beyond 2^53 is inexact, and far beyond the file.
  const elements = shape.reduce((n, size) => n * size, 1)
  return {
    tensor,
    dtype: name,
    shape,
    offset: Number(offset),
    bytes: (elements / block.elements) * block.bytes,
  }
}
