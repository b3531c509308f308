/**
 * Checkpoints that `torch.save` wrote: a state dict, tensors by name, in the zip format or in the one before PyTorch
 * 1.6; one file, or several with an index. Only the pickles are read here, by a machine that runs nothing; weights
 * stay on disk. Nothing in a file is believed: every size, offset and stride is checked against the file itself.
 *
 *     zip     <top>/data.pkl, the state dict | <top>/data/<key>, a storage's elements | <top>/version | <top>/byteorder
 *     legacy  five pickles: magic number, version, machine, state dict, keys | for each key: i64 count, elements
 *
 * A tensor is a view: it takes elements of a storage, which others may share, from an offset on, with a stride in each
 * dimension.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Yauzl from "yauzl"
import * as Pickle from "./Pickle.ts"
import * as TensorFile from "./TensorFile.ts"
import { DTYPE_BYTES } from "./Safetensors.ts"
import { attempt, BadFile, BadTensor, readFully, Unreadable } from "./TensorFile.ts"
import * as Shards from "./Shards.ts"

/** Where one tensor is: `bytes` reach from its first element to the end of its last. */
export interface Entry extends TensorFile.Entry {
  /** In elements, of a tensor whose elements do not follow each other row by row: `gather` puts them in order. */
  readonly strides?: ReadonlyArray<number>
}
/** By name, in the order of the data; tied weights share their bytes. */
export type Catalog = ReadonlyMap<string, Entry>

/** The element types of storages, by the names PyTorch writes; an untyped storage is bytes. */
const STORAGES: ReadonlyMap<string, string | undefined> = new Map([
  ["torch.FloatStorage", "F32"],
  ["torch.HalfStorage", "F16"],
  ["torch.BFloat16Storage", "BF16"],
  ["torch.DoubleStorage", "F64"],
  ["torch.LongStorage", "I64"],
  ["torch.IntStorage", "I32"],
  ["torch.ShortStorage", "I16"],
  ["torch.CharStorage", "I8"],
  ["torch.ByteStorage", "U8"],
  ["torch.BoolStorage", "BOOL"],
  ["torch.storage.UntypedStorage", undefined],
])
/** The types that have no storage of their own: their tensors lie in untyped ones. */
const DTYPES: ReadonlyMap<string, string> = new Map([
  ["torch.float8_e4m3fn", "F8_E4M3"],
  ["torch.float8_e5m2", "F8_E5M2"],
  ["torch.uint16", "U16"],
  ["torch.uint32", "U32"],
  ["torch.uint64", "U64"],
])

interface Storage {
  readonly kind: "storage"
  readonly key: string
  readonly dtype: string | undefined
  readonly bytes: number
}
/** The arguments as the file gives them, checked when the tensor's name is known. */
interface Tensor {
  readonly kind: "tensor"
  readonly storage: Storage
  readonly dtype: string
  readonly offset: Value
  readonly shape: Value
  readonly strides: Value
}
type Value = Pickle.Value<Storage | Tensor>
interface Place {
  readonly offset: number
  readonly bytes: number
}

const isCount = (u: unknown): u is number => Number.isSafeInteger(u) && (u as number) >= 0
const isDict = (value: Value | undefined): value is Pickle.Dict<Storage | Tensor> =>
  value !== null && typeof value === "object" && value.kind === "dict"
const isTuple = (value: Value | undefined): value is Pickle.Tuple<Storage | Tensor> =>
  value !== null && typeof value === "object" && value.kind === "tuple"
const nameOf = (value: Value | undefined) =>
  value !== null && typeof value === "object" && value.kind === "global" ? value.name : ""
const madeOf = (value: Value | undefined) =>
  value !== null && typeof value === "object" && value.kind === "made" ? value.made : undefined

/** What PyTorch's names mean; the storages that the pickle refers to are put into `storages`. */
const host = (storages: Map<string, Storage>): Pickle.Host<Storage | Tensor> => ({
  globals: new Set([...STORAGES.keys(), ...DTYPES.keys(), ...REBUILD.keys()]),
  attributes: new Set(["_metadata"]),
  call: (global, args) => {
    const rebuild = REBUILD.get(global)
    if (rebuild === undefined) throw new Pickle.Refused(`it calls ${global}, which makes no tensor`)
    const value = rebuild(args)
    if (value === undefined) {
      throw new Pickle.Refused(`it calls ${global} with ${Pickle.shown({ kind: "tuple", items: args })}`)
    }
    return value
  },
  persistent: (id) => {
    const [tag, type, key, device, numel, view = null] = isTuple(id) ? id.items : []
    const named = nameOf(type)
    if (tag !== "storage" || !STORAGES.has(named) || typeof key !== "string" || typeof device !== "string") {
      const expected = `("storage", type, key, device, elements)`
      throw new Pickle.Refused(`it refers to ${Pickle.shown(id)} outside of it; expected ${expected}`)
    }
    if (view !== null) throw new Pickle.Refused("it has a view of a storage; load and save it with a newer PyTorch")
    const dtype = STORAGES.get(named)
    const bytes = isCount(numel) ? numel * (dtype === undefined ? 1 : DTYPE_BYTES[dtype]!) : -1
    if (!isCount(bytes)) throw new Pickle.Refused(`it refers to a storage of ${Pickle.shown(numel ?? null)} elements`)
    const known = storages.get(key)
    if (known !== undefined && (known.dtype !== dtype || known.bytes !== bytes)) {
      throw new Pickle.Refused(`it refers to storage ${Pickle.shown(key)} in two ways`)
    }
    const made: Storage = known ?? { kind: "storage", key, dtype, bytes }
    storages.set(key, made)
    return { kind: "made", made }
  },
})

const isBare = (value: Value | undefined) => isDict(value) && value.items.length === 0

/** A tensor, from the arguments that all versions share. */
const view = (args: ReadonlyArray<Value>, dtype: string | undefined): Value | undefined => {
  const [from, offset, shape, strides, gradient, hooks] = args as ReadonlyArray<Value | undefined>
  const storage = madeOf(from)
  if (storage?.kind !== "storage" || dtype === undefined || typeof gradient !== "boolean" || !isBare(hooks)) return
  return {
    kind: "made",
    made: { kind: "tensor", storage, dtype, offset: offset!, shape: shape!, strides: strides! },
  }
}
/** Nothing that changes what the elements mean, such as a conjugate's or a negative's mark. */
const isPlain = (metadata: Value | undefined) => metadata === undefined || metadata === null || isBare(metadata)

/** What a global makes of its arguments; nothing if they are not what PyTorch writes. */
const REBUILD: ReadonlyMap<string, (args: ReadonlyArray<Value>) => Value | undefined> = new Map([
  ["collections.OrderedDict", (args) => (args.length === 0 ? { kind: "dict", items: [] } : undefined)],
  ["torch.Size", (args) => (args.length === 1 && isTuple(args[0]) ? args[0] : undefined)],
  [
    "torch._utils._rebuild_tensor_v2",
    (args) => {
      const storage = madeOf(args[0])
      if (args.length > 7 || !isPlain(args[6])) return
      return view(args, storage?.kind === "storage" ? storage.dtype : undefined)
    },
  ],
  [
    "torch._utils._rebuild_tensor_v3",
    (args) => {
      const storage = madeOf(args[0])
      if (args.length > 8 || !isPlain(args[7])) return
      return view(
        args,
        storage?.kind === "storage" && storage.dtype === undefined ? DTYPES.get(nameOf(args[6])) : undefined,
      )
    },
  ],
  [
    "torch._utils._rebuild_parameter",
    (args) => {
      const [data, gradient, hooks] = args as ReadonlyArray<Value | undefined>
      const fits = args.length === 3 && typeof gradient === "boolean" && isBare(hooks)
      return fits && madeOf(data)?.kind === "tensor" ? data : undefined
    },
  ],
] satisfies ReadonlyArray<readonly [string, (args: ReadonlyArray<Value>) => Value | undefined]>)

/** The catalog of a checkpoint: a file that `torch.save` wrote, or a `pytorch_model.bin.index.json` and its files. */
export const read = (path: string): Effect.Effect<Catalog, Unreadable | BadFile | BadTensor> =>
  path.endsWith(".json") ? readSharded(path) : readFile(path)

/** The catalog of all files that a `pytorch_model.bin.index.json` names; they lie beside it. */
export const readSharded = (index: string): Effect.Effect<Catalog, Unreadable | BadFile | BadTensor> =>
  Shards.readSharded(index, readFile)

/** The catalog of one file. */
export const readFile = Effect.fn("TorchFile.readFile")(function* (file: string) {
  return yield* Effect.scoped(open(file))
})

const open = Effect.fnUntraced(function* (file: string) {
  const handle = yield* Effect.acquireRelease(
    attempt(file, () => Fs.openSync(file, "r")),
    (handle) => Effect.sync(() => Fs.closeSync(handle)),
  )
  const { size } = yield* attempt(file, () => Fs.fstatSync(handle))
  const start = new Uint8Array(4)
  yield* attempt(file, () => readFully(handle, start, 4, 0))
  const opened: Opened = {
    file,
    size,
    read: (into, position) => {
      let got: number
      try {
        got = readFully(handle, into, into.length, position)
      } catch (cause) {
        throw new Unreadable({ file, reason: (cause as Error).message })
      }
      if (got < into.length) throw new Unreadable({ file, reason: "it became shorter meanwhile" })
    },
  }
  if (start[0] === 0x50 && start[1] === 0x4b) return yield* zipped(opened)
  if (start[0] === 0x80) return yield* legacy(opened)
  return yield* new BadFile({
    file,
    reason: "begins neither as a zip file nor as a pickle; expected what torch.save writes",
  })
})

interface Opened {
  readonly file: string
  readonly size: number
  /** Fills `into`, or throws `Unreadable`. */
  readonly read: (into: Uint8Array, position: number) => void
}

/** What reading throws, as an error; anything else is a bug. */
const guarded = <A>(file: string, thunk: () => A): Effect.Effect<A, Unreadable | BadFile> =>
  Effect.try({
    try: thunk,
    catch: (cause) => {
      if (cause instanceof Unreadable) return cause
      if (cause instanceof Pickle.Refused) return new BadFile({ file, reason: cause.message })
      throw cause
    },
  })

/** One pickle; the storages it refers to are put into `storages`. */
const unpickle = (file: string, from: Pickle.Source, storages: Map<string, Storage>) =>
  guarded(file, () => Pickle.run(from, host(storages)))

/** Where the storages and other parts of a zip file are, by their names in its one folder. */
const parts = Effect.fnUntraced(function* (opened: Opened) {
  const { file } = opened
  const bad = (reason: string) => new BadFile({ file, reason })
  const ask = <A>(promise: () => Promise<A>) =>
    Effect.tryPromise({
      try: promise,
      catch: (cause) =>
        cause instanceof Unreadable
          ? cause
          : bad(`is not a sound zip file: ${Pickle.printable((cause as Error).message)}`),
    })
  const options = { lazyEntries: true, autoClose: false, strictFileNames: true, validateEntrySizes: false }
  const zip = yield* ask(() => Yauzl.fromRandomAccessReaderPromise(new Reader(opened), opened.size, options))
  const each = zip.eachEntry()
  const ranges: Array<{ readonly name: string; readonly begin: number; readonly end: number }> = []
  const found = new Map<string, Place>()
  let top: string | undefined
  for (;;) {
    const next = yield* ask(() => each.next())
    if (next.done) break
    const entry = next.value
    const name = Pickle.shown(entry.fileName)
    if (entry.isEncrypted()) return yield* bad(`has ${name} encrypted`)
    // PyTorch reads nothing from such a part, whatever it holds.
    if ((entry.externalFileAttributes & 0x10) !== 0) return yield* bad(`has ${name} marked as a folder`)
    if (entry.compressionMethod !== 0) return yield* bad(`has ${name} compressed; torch.save only stores`)
    const local = yield* ask(() =>
      zip.readLocalFileHeaderPromise(entry).then((header) => ({
        offset: header.fileDataStart,
        agrees: agrees(header, entry),
      })),
    )
    if (!local.agrees) return yield* bad(`says of ${name} at its place what its directory denies`)
    const { offset } = local
    ranges.push({ name, begin: entry.relativeOffsetOfLocalHeader, end: offset + entry.compressedSize })
    const slash = entry.fileName.indexOf("/")
    const folder = entry.fileName.slice(0, slash + 1)
    top ??= folder
    if (folder !== top || folder === "") return yield* bad(`has ${name} outside its folder ${Pickle.shown(top)}`)
    const part = entry.fileName.slice(slash + 1)
    if (!/^(data\.pkl|version|byteorder|\..*|data\/[^/]+)$/s.test(part)) {
      return yield* bad(`has ${name}, which torch.save writes for no state dict; a TorchScript module cannot be read`)
    }
    if (found.has(part)) return yield* bad(`has ${name} twice`)
    if (found.size === MOST_PARTS) return yield* bad(`has more than ${MOST_PARTS} parts`)
    found.set(part, { offset, bytes: entry.compressedSize })
  }
  ranges.sort((a, b) => a.begin - b.begin)
  for (const [i, { name, begin }] of ranges.entries()) {
    const before = ranges[i - 1]
    if (before !== undefined && begin < before.end) return yield* bad(`has ${name} begin inside ${before.name}`)
  }
  return found
})

/** A file of one pickle has at most as many storages as that pickle can name. */
const MOST_PARTS = 1 << 18

/** For a zip library that reads through callbacks. No position reaches the file system that the file does not have. */
class Reader extends Yauzl.RandomAccessReader {
  readonly #opened: Opened
  constructor(opened: Opened) {
    super()
    this.#opened = opened
  }
  override read(
    into: Buffer,
    offset: number,
    length: number,
    position: number,
    done: (error: Error | null) => void,
  ): void {
    let error: Error | null = null
    try {
      if (position + length > this.#opened.size) throw new Error(`it has no ${length} bytes at ${position}`)
      this.#opened.read(into.subarray(offset, offset + length), position)
    } catch (cause) {
      error = cause as Error
    }
    done(error)
  }
}

/** Whether a part's own header says what the directory says. Sizes may follow the data (bit 3), or need 64 bits. */
const agrees = (local: Yauzl.LocalFileHeader, entry: Yauzl.Entry): boolean => {
  const later = (local.generalPurposeBitFlag & 8) !== 0
  const wide = Yauzl.parseExtraFields(local.extraField).find(({ id }) => id === 1)?.data
  const isSize = (size: number, at: number) =>
    size === entry.compressedSize ||
    (later && size === 0) ||
    (size === 0xffff_ffff &&
      wide !== undefined &&
      wide.length >= 16 &&
      Number(wide.readBigUInt64LE(at)) === entry.compressedSize)
  return (
    local.fileName.equals(entry.fileNameRaw) &&
    local.compressionMethod === entry.compressionMethod &&
    local.generalPurposeBitFlag === entry.generalPurposeBitFlag &&
    entry.uncompressedSize === entry.compressedSize &&
    isSize(local.uncompressedSize, 0) &&
    isSize(local.compressedSize, 8)
  )
}

const zipped = Effect.fnUntraced(function* (opened: Opened) {
  const { file, read } = opened
  const bad = (reason: string) => new BadFile({ file, reason })
  const found = yield* parts(opened)
  const text = Effect.fnUntraced(function* (part: string) {
    const { offset, bytes } = found.get(part) ?? { offset: 0, bytes: 0 }
    if (bytes > 16) return yield* bad(`has a ${part} of ${bytes} bytes`)
    const into = new Uint8Array(bytes)
    yield* guarded(file, () => read(into, offset))
    return String.fromCharCode(...into).trimEnd()
  })
  const version = yield* text("version")
  if (!/^([1-9]|10)$/.test(version)) {
    return yield* bad(`is of format version ${JSON.stringify(version)}; known: 1 to 10`)
  }
  const order = yield* text("byteorder")
  if (found.has("byteorder") && order !== "little") {
    return yield* bad(`has the byte order ${JSON.stringify(order)}; known: "little"`)
  }
  const pickle = found.get("data.pkl")
  if (pickle === undefined) return yield* bad("has no data.pkl")
  if (pickle.bytes > Pickle.LARGEST) {
    return yield* bad(`has a pickle of ${pickle.bytes} bytes; at most ${Pickle.LARGEST} are read`)
  }
  const from = Pickle.source(read, pickle.offset, pickle.offset + pickle.bytes)
  const storages = new Map<string, Storage>()
  const value = yield* unpickle(file, from, storages)
  if (from.left() > 0) return yield* bad(`has ${from.left()} bytes after its pickle`)
  const places = new Map<Storage, Place>()
  for (const [key, storage] of storages) {
    const place = found.get(`data/${key}`)
    if (place === undefined) return yield* bad(`has no data/${Pickle.printable(key)}, which its pickle refers to`)
    if (place.bytes !== storage.bytes) {
      return yield* bad(`has a data/${Pickle.printable(key)} of ${place.bytes} bytes; its pickle says ${storage.bytes}`)
    }
    places.set(storage, place)
  }
  for (const part of found.keys()) {
    if (part.startsWith("data/") && !storages.has(part.slice("data/".length))) {
      return yield* bad(`has ${Pickle.shown(part)}, which its pickle does not refer to`)
    }
  }
  return yield* catalogOf(file, value, places)
})

const MAGIC = 0x1950_a86a_20f9_469c_fc6cn
const PROTOCOL = 1001

const legacy = Effect.fnUntraced(function* ({ file, size, read }: Opened) {
  const bad = (reason: string) => new BadFile({ file, reason })
  const end = Math.min(size, Pickle.LARGEST)
  const from = Pickle.source(read, 0, end, end < size ? `it takes more than ${end} bytes` : undefined)
  const storages = new Map<string, Storage>()
  const next = (referred = new Map<string, Storage>()) => unpickle(file, from, referred)
  if ((yield* next()) !== MAGIC) return yield* bad("begins with a pickle, but not with PyTorch's magic number")
  const protocol = yield* next()
  if (protocol !== PROTOCOL) {
    return yield* bad(`is of protocol version ${Pickle.shown(protocol)}; known: ${PROTOCOL}`)
  }
  const machine = yield* next()
  const at = isDict(machine) ? machine.items.findIndex((key, i) => i % 2 === 0 && key === "little_endian") : -1
  if (!isDict(machine) || at < 0 || machine.items[at + 1] !== true) {
    return yield* bad("does not say that it was written on a little-endian machine")
  }
  const value = yield* next(storages)
  const keys = yield* next()
  if (keys === null || typeof keys !== "object" || keys.kind !== "list") {
    return yield* bad(`has ${Pickle.shown(keys)} for the keys of its storages; expected a list`)
  }
  const places = new Map<Storage, Place>()
  const count = new DataView(new ArrayBuffer(8))
  let offset = from.at()
  for (const key of keys.items) {
    const storage = typeof key === "string" ? storages.get(key) : undefined
    if (storage === undefined) return yield* bad(`lists the storage ${Pickle.shown(key)}, which its pickle does not`)
    if (places.has(storage)) return yield* bad(`lists the storage ${Pickle.shown(key)} twice`)
    const { bytes, dtype } = storage
    if (offset + 8 + bytes > size) return yield* bad(`ends inside storage ${Pickle.shown(key)}`)
    yield* guarded(file, () => read(new Uint8Array(count.buffer), offset))
    const stated = count.getBigInt64(0, true) * BigInt(dtype === undefined ? 1 : DTYPE_BYTES[dtype]!)
    if (stated !== BigInt(bytes)) {
      return yield* bad(`has a storage ${Pickle.shown(key)} of ${stated} bytes; its pickle says ${bytes}`)
    }
    places.set(storage, { offset: offset + 8, bytes })
    offset += 8 + bytes
  }
  if (places.size < storages.size) return yield* bad("does not list all storages that its pickle refers to")
  if (offset !== size) return yield* bad(`has ${size - offset} bytes after its last storage; expected none`)
  return yield* catalogOf(file, value, places)
})

/** The tensors of a state dict; anything else in it is an error. */
const catalogOf = Effect.fnUntraced(function* (file: string, state: Value, places: ReadonlyMap<Storage, Place>) {
  if (!isDict(state)) {
    return yield* new BadFile({ file, reason: `holds ${Pickle.shown(state)}; expected a dict of tensors by name` })
  }
  const keys = state.items.filter((_, i) => i % 2 === 0)
  const values = state.items.filter((_, i) => i % 2 === 1)
  if (values.some(isDict)) {
    const listed = keys.slice(0, 10).map(Pickle.shown).join(", ")
    const reason = `holds dicts inside a dict with the keys ${listed}${keys.length > 10 ? ", …" : ""}; save the state dict alone`
    return yield* new BadFile({ file, reason })
  }
  const entries: Array<Entry> = []
  const names = new Set<string>()
  for (const [i, name] of keys.entries()) {
    if (typeof name !== "string") {
      return yield* new BadFile({ file, reason: `has a tensor named ${Pickle.shown(name)}; expected a string` })
    }
    if (names.has(name)) return yield* new BadTensor({ file, tensor: name, reason: "is there twice" })
    names.add(name)
    entries.push(yield* entryOf(file, name, values[i]!, places))
  }
  entries.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)
  return new Map(entries.map((entry) => [entry.tensor, entry])) as Catalog
})

const entryOf = Effect.fnUntraced(function* (
  file: string,
  tensor: string,
  value: Value,
  places: ReadonlyMap<Storage, Place>,
) {
  const bad = (reason: string) => new BadTensor({ file, tensor, reason })
  const made = madeOf(value)
  if (made?.kind !== "tensor")
    return yield* bad(`is ${made?.kind ?? Pickle.shown(value)}, not a tensor; save without it`)
  const { dtype, offset } = made
  const counts = (value: Value) => (isTuple(value) && value.items.every(isCount) ? value.items : undefined)
  const shape = counts(made.shape)
  if (shape === undefined) return yield* bad(`has the shape ${Pickle.shown(made.shape)}; expected a tuple of sizes`)
  const strides = counts(made.strides)
  if (strides?.length !== shape.length) {
    return yield* bad(`has the strides ${Pickle.shown(made.strides)}; expected ${shape.length} numbers from 0 up`)
  }
  if (!isCount(offset)) return yield* bad(`begins at element ${Pickle.shown(offset)} of its storage`)
  const size = DTYPE_BYTES[dtype]!
  const place = places.get(made.storage)!
  // A tensor without elements takes no place, wherever it says it begins.
  if (shape.includes(0)) return { tensor, dtype, shape, file, offset: place.offset, bytes: 0 }
  const elements = shape.reduce((product, n) => product * n, 1)
  if (!Number.isSafeInteger(elements * size))
    return yield* bad(`has the shape ${Pickle.shown(made.shape)}, beyond any memory`)
  // Beyond 2^53 sums and products are no longer exact, but still beyond every storage.
  const span = shape.reduce((last, n, i) => last + (n - 1) * strides[i]!, 1)
  const held = Math.floor(place.bytes / size)
  if (elements > Math.max(held, MOST_REPEATED)) {
    return yield* bad(`repeats ${held} elements of its storage as ${elements}; at most ${MOST_REPEATED} are made so`)
  }
  if (offset + span > held) {
    return yield* bad(`reaches to element ${offset + span} of its storage, which holds ${held}`)
  }
  const entry = { tensor, dtype, shape, file, offset: place.offset + offset * size, bytes: span * size }
  return isRowMajor(shape, strides) ? entry : { ...entry, strides }
})

/** A view may take elements many times over: a small file must not fill the memory. */
const MOST_REPEATED = 1 << 20

/** Whether each element follows the one before it; the stride of a dimension of one element is never taken. */
const isRowMajor = (shape: ReadonlyArray<number>, strides: ReadonlyArray<number>): boolean => {
  let expected = 1
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return false
    expected *= shape[i]!
  }
  return true
}
