import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Safetensors from "../../src/data/Safetensors.ts"
import * as TensorFile from "../../src/data/TensorFile.ts"
import * as TorchFile from "../../src/data/TorchFile.ts"
import { gather } from "../../src/math/Strided.ts"
import { folder } from "../support/folder.ts"

const golden = (name: string) => fileURLToPath(new URL(`../golden/torch/${name}`, import.meta.url))

/** The elements of a tensor, row-major. */
const elements = (entry: TorchFile.Entry): Buffer => {
  const { bytes, dtype, file, offset, shape, strides } = entry
  const stored = readFileSync(file).subarray(offset, offset + bytes)
  if (strides === undefined) return stored
  const size = Safetensors.DTYPE_BYTES[dtype]!
  const out = Buffer.alloc(shape.reduce((n, d) => n * d, size))
  gather(stored, size, shape, strides, out)
  return out
}

/** Both files hold the same tensors, bit for bit. */
const same = Effect.fnUntraced(function* (file: string, values: string) {
  const found = yield* TorchFile.read(golden(file))
  const expected = yield* Safetensors.read(golden(values))
  assert.deepStrictEqual([...found.keys()].toSorted(), [...expected.keys()].toSorted())
  for (const [name, entry] of expected) {
    const { dtype, shape, strides } = found.get(name)!
    assert.deepStrictEqual([dtype, shape], [entry.dtype, entry.shape], name)
    if (strides === undefined) assert.strictEqual(found.get(name)!.bytes, entry.bytes, name)
    assert.deepStrictEqual(elements(found.get(name)!), elements(entry), name)
  }
  return found
})

describe("what torch.save writes is found", () => {
  const files = ["zip-2", "zip-3", "zip-4", "zip-5", "legacy-2", "legacy-4"].map((name) => `${name}.bin`)
  for (const file of [...files, "index/pytorch_model.bin.index.json"]) {
    it.effect(`in ${file}`, () => same(file, "values.safetensors"))
  }
  it.effect("in types without storages of their own", () => same("narrow.bin", "narrow.safetensors"))

  it.effect("as views: strides only where rows do not follow each other, one place for tied weights", () =>
    Effect.gen(function* () {
      const catalog = yield* TorchFile.read(golden("zip-2.bin"))
      const at = (name: string) => {
        const { bytes, offset, strides } = catalog.get(name)!
        return { from: offset - catalog.get("f32")!.offset, bytes, strides }
      }
      assert.deepStrictEqual(at("f32"), { from: 0, bytes: 120, strides: undefined })
      assert.deepStrictEqual(at("tied"), at("f32"))
      assert.deepStrictEqual(at("rows"), { from: 40, bytes: 40, strides: undefined })
      assert.deepStrictEqual(at("element"), { from: 96, bytes: 4, strides: undefined })
      assert.deepStrictEqual(at("transposed"), { from: 0, bytes: 120, strides: [1, 5] })
      assert.deepStrictEqual(at("columns"), { from: 4, bytes: 112, strides: [5, 1] })
      assert.deepStrictEqual(at("column"), { from: 8, bytes: 104, strides: [5] })
      assert.deepStrictEqual(catalog.get("expanded")!.strides, [1, 0])
      assert.deepStrictEqual(catalog.get("empty.sliced")!.shape, [1, 0, 3])
      const offsets = Array.from(catalog.values(), ({ offset }) => offset)
      assert.deepStrictEqual(
        offsets,
        offsets.toSorted((a, b) => a - b),
      )
    }),
  )

  it.effect("and weights are read as float32 where they lie row by row", () =>
    Effect.gen(function* () {
      const catalog = yield* TorchFile.read(golden("legacy-2.bin"))
      const out = new Float32Array(4)
      TensorFile.readFloats(catalog.get("parameter.frozen")!, 0, 4, out)
      assert.deepStrictEqual([...out], [0, 1, 2, 3])
    }),
  )
})

type Kind = new (...args: any) => Error
const refused = Effect.fnUntraced(function* (file: string, kind: Kind, message: RegExp) {
  const error = yield* Effect.flip(TorchFile.read(file))
  assert.instanceOf(error, kind)
  assert.match(error.message, message)
  assert.include(error.message, file)
})
const { BadFile, BadTensor, Unreadable } = TensorFile

describe("what is no state dict is refused", () => {
  const cases: ReadonlyArray<readonly [file: string, kind: Kind, message: RegExp]> = [
    ["nested.bin", BadFile, /dicts inside a dict with the keys "epoch", "state_dict", "lr"; save the state dict alone/],
    ["extra.bin", BadTensor, /tensor step is 7, not a tensor; save without it/],
    ["negative.bin", BadFile, /refused at byte \d+: it calls torch\._utils\._rebuild_tensor_v2 with/],
    [
      "hostile.bin",
      BadFile,
      /refused at byte \d+: global posix\.system is not a tensor's; the file may be hostile; nothing was run/,
    ],
    ["values.safetensors", BadFile, /begins neither as a zip file nor as a pickle/],
    ["nowhere.bin", Unreadable, /cannot be read: ENOENT/],
    ["", Unreadable, /cannot be read: EISDIR/],
  ]
  for (const [file, kind, message] of cases) {
    it.effect(file || "a folder", () => refused(golden(file), kind, message))
  }
})

/** A part of a zip file: what is said of it at its place, and by the directory where that is something else. */
interface Part {
  readonly name: string
  readonly data: Uint8Array
  readonly method?: number
  readonly flags?: number
  readonly attributes?: number
  /** Of its own header: compressed, and not. */
  readonly sizes?: readonly [number, number]
  /** Of the directory's record. */
  readonly says?: { readonly name?: string; readonly size?: number; readonly at?: number }
  /** Sizes in 64 bits, behind the name: the directory's, and its own. */
  readonly wide?: { readonly here: bigint; readonly directory: bigint }
}
const record = (part: Part, signature: number, name: string, size: number, at?: number) => {
  const { flags = 0, method = 0, wide } = part
  const directory = at !== undefined
  const sizes = wide && (directory ? wide.directory : wide.here)
  const extra = Buffer.alloc(wide ? 20 : 0)
  if (sizes !== undefined) {
    extra.writeUInt16LE(1, 0)
    extra.writeUInt16LE(16, 2)
    extra.writeBigUInt64LE(sizes, 4)
    extra.writeBigUInt64LE(sizes, 12)
  }
  const head = Buffer.alloc(directory ? 46 : 30)
  head.writeUInt32LE(signature, 0)
  const fields = head.subarray(directory ? 6 : 4)
  fields.writeUInt16LE(flags, 2)
  fields.writeUInt16LE(method, 4)
  const [packed, unpacked] = (!directory && part.sizes) || [size, size]
  fields.writeUInt32LE(wide ? 0xffff_ffff : packed, 14)
  fields.writeUInt32LE(wide ? 0xffff_ffff : unpacked, 18)
  fields.writeUInt16LE(Buffer.byteLength(name), 22)
  fields.writeUInt16LE(extra.length, 24)
  if (directory) {
    head.writeUInt32LE(part.attributes ?? 0, 38)
    head.writeUInt32LE(at, 42)
  }
  return Buffer.concat([head, Buffer.from(name), extra])
}
const zip = (parts: ReadonlyArray<Part>): Buffer => {
  const pieces: Array<Uint8Array> = []
  const directory: Array<Uint8Array> = []
  let end = 0
  const add = (piece: Uint8Array) => {
    pieces.push(piece)
    end += piece.length
  }
  for (const part of parts) {
    const { data, name, says } = part
    directory.push(record(part, 0x02014b50, says?.name ?? name, says?.size ?? data.length, says?.at ?? end))
    add(record(part, 0x04034b50, name, data.length))
    add(data)
  }
  const start = end
  for (const piece of directory) add(piece)
  const tail = Buffer.alloc(22)
  tail.writeUInt32LE(0x06054b50, 0)
  tail.writeUInt16LE(parts.length, 8)
  tail.writeUInt16LE(parts.length, 10)
  tail.writeUInt32LE(end - start, 12)
  tail.writeUInt32LE(start, 16)
  return Buffer.concat([...pieces, tail])
}

/** The same with a second, wide, record of where the directory is. */
const wide = (bytes: Buffer, at?: { readonly record?: bigint; readonly directory?: bigint }): Buffer => {
  const tail = bytes.subarray(-22)
  const record = Buffer.alloc(56)
  record.writeUInt32LE(0x06064b50, 0)
  record.writeBigUInt64LE(44n, 4)
  record.writeBigUInt64LE(BigInt(tail.readUInt16LE(10)), 24)
  record.writeBigUInt64LE(BigInt(tail.readUInt16LE(10)), 32)
  record.writeBigUInt64LE(at?.directory ?? BigInt(tail.readUInt32LE(16)), 48)
  const locator = Buffer.alloc(20)
  locator.writeUInt32LE(0x07064b50, 0)
  locator.writeBigUInt64LE(at?.record ?? BigInt(bytes.length - 22), 8)
  locator.writeUInt32LE(1, 16)
  const narrow = Buffer.from(tail)
  narrow.writeUInt32LE(0xffff_ffff, 16)
  return Buffer.concat([bytes.subarray(0, -22), record, locator, narrow])
}

const line = (text: string) => `${text}\n`
const string = (text: string) => `X${String.fromCharCode(text.length, 0, 0, 0)}${text}`
const tensor = (dtype: string, key: string, numel: string, offset: string, shape: string, strides: string) =>
  line("ctorch._utils") +
  line("_rebuild_tensor_v2") +
  `((${string("storage")}${line("ctorch")}${line(dtype)}${string(key)}${string("cpu")}${numel}tQ` +
  `${offset}(${shape}t(${strides}t\x89${line("ccollections")}${line("OrderedDict")})RtR`
const pickle = (body: string) => Buffer.from(`\x80\x02${body}.`, "latin1")

const plain = pickle(`}${string("a")}${tensor("FloatStorage", "0", "K\x02", "K\x00", "K\x02", "K\x01")}s`)
const parts: ReadonlyArray<Part> = [
  { name: "top/data.pkl", data: plain },
  { name: "top/byteorder", data: Buffer.from("little") },
  { name: "top/data/0", data: Buffer.alloc(8, 1) },
  { name: "top/version", data: Buffer.from("3\n") },
  { name: "top/.data/serialization_id", data: Buffer.from("0123") },
]
/** The parts with one of them changed. */
const changed = (name: string, change: Partial<Part>) =>
  parts.map((part) => (part.name === `top/${name}` ? { ...part, ...change } : part))
const without = (name: string) => parts.filter((part) => part.name !== `top/${name}`)

const write = Effect.fnUntraced(function* (bytes: Uint8Array) {
  const file = join(yield* folder, "pytorch_model.bin")
  writeFileSync(file, bytes)
  return file
})

describe("a zip file", () => {
  const sized = parts.map((part) => {
    const size = BigInt(part.data.length)
    return { ...part, wide: { here: size, directory: size } }
  })
  const good: ReadonlyArray<readonly [what: string, bytes: Uint8Array]> = [
    ["as torch.save writes it", zip(parts)],
    ["of before PyTorch 2.1, without a byte order", zip(without("byteorder"))],
    ["with a directory found by 64 bits", wide(zip(parts))],
    ["whose sizes take 64 bits", zip(sized)],
    ["in another order", zip(parts.toReversed())],
  ]
  for (const [what, bytes] of good) {
    it.effect(`${what} is read`, () =>
      Effect.gen(function* () {
        const file = yield* write(bytes)
        const [entry, ...others] = (yield* TorchFile.read(file)).values()
        assert.deepStrictEqual(others, [])
        assert.deepStrictEqual(
          { ...entry!, offset: 0 },
          { tensor: "a", dtype: "F32", shape: [2], file, offset: 0, bytes: 8 },
        )
        assert.deepStrictEqual(elements(entry!), Buffer.alloc(8, 1))
      }),
    )
  }

  const bad: ReadonlyArray<readonly [what: string, bytes: Uint8Array, message: RegExp]> = [
    ["is cut short", zip(parts).subarray(0, -30), /is not a sound zip file: End of central directory/],
    [
      "has something after it",
      Buffer.concat([zip(parts), Buffer.alloc(3)]),
      /is not a sound zip file: Invalid comment/,
    ],
    [
      "has a compressed part",
      zip(changed("data/0", { method: 8 })),
      /has "top\/data\/0" compressed; torch.save only stores/,
    ],
    [
      "has a part marked as a folder",
      zip(changed("data/0", { attributes: 0x10 })),
      /"top\/data\/0" marked as a folder/,
    ],
    ["has an encrypted part", zip(changed("data.pkl", { flags: 1 })), /has "top\/data.pkl" encrypted/],
    ["has a strongly encrypted part", zip(changed("data.pkl", { flags: 0x41 })), /strong encryption is not supported/],
    [
      "has a part under two names",
      zip(changed("data/0", { says: { name: "top/data/1" } })),
      /says of "top\/data\/1" at its place what its directory denies/,
    ],
    [
      "has a part of two sizes",
      zip(changed("data/0", { says: { size: 4 } })),
      /says of "top\/data\/0" at its place what its directory denies/,
    ],
    ["has a part of another size", zip(changed("data/0", { sizes: [8, 4] })), /says of "top\/data\/0" at its place/],
    ["has a part of another stored size", zip(changed("data/0", { sizes: [4, 8] })), /says of "top\/data\/0" at its/],
    [
      "has a part of two sizes of 64 bits",
      zip(changed("data/0", { wide: { here: 4n, directory: 8n } })),
      /says of "top\/data\/0" at its place/,
    ],
    [
      "has a part beyond its end",
      zip(changed("data/0", { wide: { here: 2n ** 60n, directory: 2n ** 60n } })),
      /is not a sound zip file: file data overflows file bounds/,
    ],
    [
      "has a part that begins beyond its end",
      zip(changed("data/0", { says: { at: 0x7fff_ffff } })),
      /is not a sound zip file: it has no 30 bytes at 2147483647/,
    ],
    [
      "has its directory beyond its end",
      wide(zip(parts), { directory: 2n ** 60n }),
      /is not a sound zip file: it has no 46 bytes at 1152921504606847000/,
    ],
    [
      "has the record of its directory beyond any position",
      wide(zip(parts), { record: 2n ** 64n - 1n }),
      /is not a sound zip file: it has no 56 bytes at 18446744073709552000/,
    ],
    ["has a part twice", zip([...parts, parts[2]!]), /has "top\/data\/0" twice/],
    [
      "has two folders",
      zip(changed("version", { name: "other/version" })),
      /has "other\/version" outside its folder "top\/"/,
    ],
    ["has no folder", zip([{ name: "data.pkl", data: plain }]), /has "data.pkl" outside its folder ""/],
    ["leaves its folder", zip(changed("version", { name: "top/../x" })), /invalid relative path/],
    ["has a path of Windows", zip(changed("version", { name: "top\\version" })), /invalid characters in fileName/],
    [
      "is a TorchScript module",
      zip([...parts, { name: "top/constants.pkl", data: plain }]),
      /has "top\/constants.pkl", which torch.save writes for no state dict/,
    ],
    ["has no pickle", zip(without("data.pkl")), /has no data.pkl/],
    ["has no version", zip(without("version")), /is of format version ""; known: 1 to 10/],
    ["has a new version", zip(changed("version", { data: Buffer.from("11\n") })), /format version "11"/],
    [
      "has big-endian elements",
      zip(changed("byteorder", { data: Buffer.from("big") })),
      /has the byte order "big"; known: "little"/,
    ],
    ["lacks a storage", zip(without("data/0")), /has no data\/0, which its pickle refers to/],
    [
      "has a storage of another size",
      zip(changed("data/0", { data: Buffer.alloc(12) })),
      /has a data\/0 of 12 bytes; its pickle says 8/,
    ],
    [
      "has a storage of nobody",
      zip([...parts, { name: "top/data/1", data: Buffer.alloc(4) }]),
      /has "data\/1", which its pickle does not refer to/,
    ],
    [
      "has something after its pickle",
      zip(changed("data.pkl", { data: Buffer.concat([plain, plain]) })),
      /bytes after its pickle/,
    ],
    [
      "has a pickle cut short",
      zip(changed("data.pkl", { data: plain.subarray(0, -9) })),
      /refused at byte \d+: it ends inside an instruction/,
    ],
    [
      "has a pickle beyond the limit",
      zip(changed("data.pkl", { data: Buffer.alloc(2 ** 25 + 1, plain) })),
      /has a pickle of 33554433 bytes; at most 33554432 are read/,
    ],
  ]
  for (const [what, bytes, message] of bad) {
    it.effect(`that ${what}`, () => Effect.flatMap(write(bytes), (file) => refused(file, BadFile, message)))
  }

  it.effect("that has parts inside each other", () =>
    Effect.gen(function* () {
      // The second storage is a part in the bytes of the first.
      const inner = zip([{ name: "top/data/1", data: Buffer.alloc(4) }])
      const outer: Part = { name: "top/data/0", data: inner }
      const at = zip([outer]).indexOf("top/data/1") - 30
      const hidden: Part = { name: "top/data/1", data: Buffer.alloc(4), says: { at } }
      yield* refused(yield* write(zip([outer, hidden])), BadFile, /has "top\/data\/1" begin inside "top\/data\/0"/)
    }),
  )
})

describe("a tensor that", () => {
  const u32 = (n: number) => `J${String.fromCharCode(n & 255, (n >> 8) & 255, (n >> 16) & 255, (n >> 24) & 255)}`
  const huge = "\x8a\x07\x00\x00\x00\x00\x00\x00\x10" // 2^52
  const cases: ReadonlyArray<readonly [what: string, tensor: string, kind: Kind, message: RegExp]> = [
    [
      "reaches beyond its storage",
      tensor("FloatStorage", "0", "K\x02", "K\x01", "K\x02", "K\x01"),
      BadTensor,
      /tensor a reaches to element 3 of its storage, which holds 2/,
    ],
    [
      "strides beyond its storage",
      tensor("FloatStorage", "0", "K\x02", "K\x00", "K\x02", "K\x02"),
      BadTensor,
      /tensor a reaches to element 3 of its storage/,
    ],
    [
      "begins before its storage",
      tensor("FloatStorage", "0", "K\x02", u32(-1), "K\x01", "K\x01"),
      BadTensor,
      /tensor a begins at element -1 of its storage/,
    ],
    [
      "begins before its storage, by a long integer",
      tensor("FloatStorage", "0", "K\x02", "\x8a\x02\xfe\xff", "K\x01", "K\x01"),
      BadTensor,
      /tensor a begins at element -2 of its storage/,
    ],
    [
      "has hooks",
      tensor("FloatStorage", "0", "K\x02", "K\x00", "K\x01", "K\x01").replace(")RtR", ")RNNstR"),
      BadFile,
      /it calls torch\._utils\._rebuild_tensor_v2 with/,
    ],
    [
      "begins at no element",
      tensor("FloatStorage", "0", "K\x02", "G?\xe0\x00\x00\x00\x00\x00\x00", "K\x01", "K\x01"),
      BadTensor,
      /tensor a begins at element 0.5 of its storage/,
    ],
    [
      "has a negative size",
      tensor("FloatStorage", "0", "K\x02", "K\x00", u32(-2), "K\x01"),
      BadTensor,
      /tensor a has the shape \(-2\); expected a tuple of sizes/,
    ],
    [
      "has a negative stride",
      tensor("FloatStorage", "0", "K\x02", "K\x01", "K\x02", u32(-1)),
      BadTensor,
      /tensor a has the strides \(-1\); expected 1 numbers from 0 up/,
    ],
    [
      "has a stride too many",
      tensor("FloatStorage", "0", "K\x02", "K\x00", "K\x02", "K\x01K\x01"),
      BadTensor,
      /tensor a has the strides \(1, 1\); expected 1 numbers/,
    ],
    [
      "overflows",
      tensor("FloatStorage", "0", "K\x02", "K\x00", huge + huge, "K\x00K\x00"),
      BadTensor,
      /tensor a has the shape \(4503599627370496, 4503599627370496\), beyond any memory/,
    ],
    [
      "strides past any number",
      tensor("FloatStorage", "0", "K\x02", "K\x00", "K\x02K\x02", huge + huge),
      BadTensor,
      /tensor a reaches to element 9007199254740992 of/,
    ],
    [
      "has a size beyond any number",
      tensor("FloatStorage", "0", "K\x02", "K\x00", "\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01", "K\x00"),
      BadTensor,
      /tensor a has the shape \(an integer above 2\^53\)/,
    ],
    [
      "has a storage of negative size",
      tensor("FloatStorage", "0", u32(-2), "K\x00", "K\x02", "K\x01"),
      BadFile,
      /refers to a storage of -2 elements/,
    ],
    [
      "has a storage that overflows",
      tensor("FloatStorage", "0", huge, "K\x00", "K\x02", "K\x01"),
      BadFile,
      /refers to a storage of 4503599627370496 elements/,
    ],
    [
      "has a storage elsewhere",
      tensor("FloatStorage", "../data/0", "K\x02", "K\x00", "K\x02", "K\x01"),
      BadFile,
      /has no data\/\.\.\/data\/0/,
    ],
    [
      "has a storage of another type",
      tensor("DoubleStorage", "0", "K\x02", "K\x00", "K\x02", "K\x01"),
      BadFile,
      /has a data\/0 of 8 bytes; its pickle says 16/,
    ],
    [
      "has a storage without type",
      tensor("Size", "0", "K\x02", "K\x00", "K\x02", "K\x01"),
      BadFile,
      /it refers to \("storage", …, "0", "cpu", 2\) outside of it; expected \("storage", type, key, device, elements\)/,
    ],
  ]
  for (const [what, text, kind, message] of cases) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const bytes = zip(changed("data.pkl", { data: pickle(`}${string("a")}${text}s`) }))
        yield* refused(yield* write(bytes), kind, message)
      }),
    )
  }
  it.effect("strides far over a dimension of one element is row-major", () =>
    Effect.gen(function* () {
      const text = tensor("FloatStorage", "0", "K\x02", "K\x00", "K\x01K\x02K\x01", "K\x63K\x01K\x07")
      const file = yield* write(zip(changed("data.pkl", { data: pickle(`}${string("a")}${text}s`) })))
      const { bytes, shape, strides } = (yield* TorchFile.read(file)).get("a")!
      assert.deepStrictEqual([bytes, shape, strides], [8, [1, 2, 1], undefined])
    }),
  )
  it.effect("is there twice", () =>
    Effect.gen(function* () {
      const one = string("a") + tensor("FloatStorage", "0", "K\x02", "K\x00", "K\x02", "K\x01")
      const file = yield* write(zip(changed("data.pkl", { data: pickle(`}(${one}${one}u`) })))
      yield* refused(file, BadTensor, /tensor a is there twice/)
    }),
  )
})

describe("a legacy file that", () => {
  const whole = readFileSync(golden("legacy-2.bin"))
  const replaced = (from: string, to: string, which: "indexOf" | "lastIndexOf" = "indexOf") => {
    const bytes = Buffer.from(whole)
    const at = bytes[which](Buffer.from(from, "latin1"))
    assert.isAtLeast(at, 0)
    bytes.write(to, at, "latin1")
    return bytes
  }
  const cases: ReadonlyArray<readonly [what: string, bytes: Uint8Array, message: RegExp]> = [
    ["has another magic number", replaced("\x6c\xfc\x9c\x46", "\x6c\xfc\x9c\x47"), /not with PyTorch's magic number/],
    ["is of another version", replaced("M\xe9\x03", "M\xe8\x03"), /is of protocol version 1000; known: 1001/],
    [
      "is of a big-endian machine",
      replaced("little_endianq\x02\x88", "little_endianq\x02\x89"),
      /does not say that it was written on a little-endian machine/,
    ],
    ["ends early", whole.subarray(0, -1), /ends inside storage "10000\d\d"/],
    ["ends among its storages", whole.subarray(0, -600), /ends inside storage "10000\d\d"/],
    ["ends inside its pickle", whole.subarray(0, 700), /refused at byte \d+: it ends inside an instruction/],
    ["goes on", Buffer.concat([whole, Buffer.alloc(5)]), /has 5 bytes after its last storage; expected none/],
    ["lists a storage of nobody", replaced("1000000", "1999999", "lastIndexOf"), /lists the storage "1999999", which/],
    ["lists a storage twice", replaced("1000001", "1000000", "lastIndexOf"), /lists the storage "1000000" twice/],
  ]
  for (const [what, bytes, message] of cases) {
    it.effect(what, () => Effect.flatMap(write(bytes), (file) => refused(file, BadFile, message)))
  }

  it.effect("counts other elements than its pickle", () =>
    Effect.gen(function* () {
      const catalog = yield* TorchFile.read(golden("legacy-2.bin"))
      const bytes = Buffer.from(whole)
      bytes[catalog.get("f32")!.offset - 8]! += 1
      yield* refused(yield* write(bytes), BadFile, /has a storage "\d+" of 124 bytes; its pickle says 120/)
      bytes.writeBigInt64LE(-1n, catalog.get("f32")!.offset - 8)
      yield* refused(yield* write(bytes), BadFile, /has a storage "\d+" of -4 bytes; its pickle says 120/)
    }),
  )
})

describe("an index", () => {
  it.effect("and its files must agree", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const index = join(path, "pytorch_model.bin.index.json")
      writeFileSync(join(path, "1.bin"), zip(parts))
      const refuses = (map: unknown, kind: Kind, message: RegExp) => {
        writeFileSync(index, JSON.stringify(map))
        return refused(index, kind, message)
      }
      writeFileSync(index, JSON.stringify({ weight_map: { a: "1.bin" } }))
      assert.deepStrictEqual([...(yield* TorchFile.read(index)).keys()], ["a"])
      yield* refuses({}, BadFile, /has no weight_map/)
      yield* refuses({ weight_map: { a: "../1.bin" } }, BadTensor, /expected the name of a file beside the index/)
      yield* refuses({ weight_map: { a: "1.bin", b: "1.bin" } }, BadTensor, /b is said to be in 1.bin, which does not/)
      writeFileSync(join(path, "2.bin"), zip(parts))
      yield* refuses({ weight_map: { a: "1.bin", b: "2.bin" } }, BadTensor, /b is said to be in 2.bin, which does not/)
    }),
  )
  it.effect("must name every tensor of its files", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const index = join(path, "pytorch_model.bin.index.json")
      const shard = "pytorch_model-00001-of-00002.bin"
      writeFileSync(join(path, shard), readFileSync(golden(`index/${shard}`)))
      writeFileSync(index, JSON.stringify({ weight_map: { f32: shard } }))
      yield* refused(
        index,
        BadTensor,
        /tensor .* is in pytorch_model-00001-of-00002.bin, but the index does not name it/,
      )
    }),
  )
  it.effect("may name a file that has become shorter", () =>
    Effect.gen(function* () {
      const file = yield* write(readFileSync(golden("zip-2.bin")))
      truncateSync(file, 4000)
      yield* refused(file, BadFile, /is not a sound zip file/)
    }),
  )
})

describe("gathering", () => {
  /** Element by element, from its indices. */
  const slow = (
    stored: Uint8Array,
    size: number,
    shape: ReadonlyArray<number>,
    strides: ReadonlyArray<number>,
  ): ReadonlyArray<number> => {
    const visit = (dimension: number, from: number): ReadonlyArray<number> =>
      dimension === shape.length
        ? [...stored.subarray(from * size, from * size + size)]
        : Array.from({ length: shape[dimension]! }, (_, i) =>
            visit(dimension + 1, from + i * strides[dimension]!),
          ).flat()
    return visit(0, 0)
  }
  const stored = Uint8Array.from({ length: 240 }, (_, i) => i)
  const cases: ReadonlyArray<readonly [shape: ReadonlyArray<number>, strides: ReadonlyArray<number>]> = [
    [[], []],
    [[5], [1]],
    [
      [3, 4],
      [1, 3],
    ],
    [
      [4, 3],
      [5, 2],
    ],
    [
      [2, 3, 4],
      [1, 8, 2],
    ],
    [
      [3, 2, 2],
      [0, 1, 0],
    ],
    [
      [1, 3, 1],
      [99, 2, 77],
    ],
    [
      [2, 0, 3],
      [1, 1, 1],
    ],
    [[0], [5]],
  ]
  for (const [shape, strides] of cases) {
    for (const size of [1, 2, 4, 8]) {
      it(`[${shape}] by [${strides}], ${size} bytes each`, () => {
        const expected = slow(stored, size, shape, strides)
        const out = new Uint8Array(expected.length + 1).fill(255)
        gather(stored, size, shape, strides, out)
        assert.deepStrictEqual([...out], [...expected, 255])
      })
    }
  }
  it("refuses what does not fit", () => {
    const fit = (stored: number, shape: ReadonlyArray<number>, strides: ReadonlyArray<number>, out: number) => () =>
      gather(new Uint8Array(stored), 2, shape, strides, new Uint8Array(out))
    fit(10, [3], [2], 6)()
    assert.throws(fit(9, [3], [2], 6), RangeError, "a view of shape [3] and strides [2] does not fit")
    assert.throws(fit(10, [3], [2], 5), RangeError)
    assert.throws(fit(10, [3], [2, 1], 6), RangeError)
  })
})
