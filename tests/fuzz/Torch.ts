/** What `torch.save` writes, in parts that can be harmed one by one: the instructions of a pickle, the records of a zip file. */
import type { Tensor } from "../../src/data/SafetensorsWriter.ts"
import type { Chance } from "./Chance.ts"

type Atoms = ReadonlyArray<string>
type Tensors = { readonly [name: string]: Tensor }

const bytesOf = (atoms: Atoms) => Buffer.from(atoms.join(""), "latin1")
const u32 = (n: number) => String.fromCharCode(n & 255, (n >>> 8) & 255, (n >>> 16) & 255, n >>> 24)
const string = (value: string) => {
  const utf8 = Buffer.from(value).toString("latin1")
  return `X${u32(utf8.length)}${utf8}`
}
const int = (n: number) => `J${u32(n)}`
const ints = (of: ReadonlyArray<number>) => ["(", ...of.map(int), "t"]
const PROTO = "\x80\x02"

const STORAGES: { readonly [dtype: string]: string } = {
  F32: "FloatStorage",
  F16: "HalfStorage",
  BF16: "BFloat16Storage",
}
const SIZES: { readonly [dtype: string]: number } = { F32: 4, F16: 2, BF16: 2 }

/** The state dict, an instruction an entry. Storages are named 0, 1, … in the order of the tensors. */
const state = (tensors: Tensors, repeated: boolean): Atoms => {
  const entries = Object.entries(tensors).map(([name, { data, dtype, shape }], key): Atoms => {
    const strides = shape.map((_, axis) =>
      repeated ? 0 : shape.slice(axis + 1).reduce((product, n) => product * n, 1),
    )
    const storage = ["(", string("storage"), `ctorch\n${STORAGES[dtype]}\n`, string(String(key)), string("cpu")]
    return [
      string(name),
      "ctorch._utils\n_rebuild_tensor_v2\n",
      "(",
      ...storage,
      int(data.length / SIZES[dtype]!),
      "t",
      "Q",
      int(0),
      ...ints(shape),
      ...ints(strides),
      "\x89",
      "ccollections\nOrderedDict\n",
      ")",
      "R",
      "t",
      "R",
    ]
  })
  return [PROTO, "}", "q\x00", "(", ...entries.flat(), "u", "."]
}

/** Instructions to put among others: calls of what is no tensor's, bombs, lengths that lie. */
const HOSTILE: Atoms = [
  "cos\nsystem\n",
  "c__builtin__\neval\n",
  "ctorch._utils\n_rebuild_tensor_v2\n",
  "R",
  "b",
  "Q",
  "}",
  "]",
  ")",
  "(",
  "t",
  "u",
  "e",
  "N",
  "h\x00",
  "h\x01",
  "q\x00",
  "r\xff\xff\xff\xff",
  "j\xff\xff\xff\x7f",
  "X\xff\xff\xff\xff",
  "\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
  "\x95\xff\xff\xff\xff\xff\xff\xff\x7f",
  "\x8a\xff",
  "\x8a\x10" + "\xff".repeat(16),
  int(-1),
  int(0x7fff_ffff),
  "G\x7f\xf8\x00\x00\x00\x00\x00\x00",
  "(".repeat(150_000),
  "\x85".repeat(150_000),
  "N".repeat(150_000),
  // Each tuple holds the last one twice.
  `)q\x01${"h\x01h\x01\x86q\x01".repeat(5000)}`,
  "Z".repeat(1000),
]

const harmedAtoms = (chance: Chance, atoms: Atoms): Atoms => {
  const out = [...atoms]
  for (let n = chance.below(3); n >= 0; n--) {
    const at = chance.below(out.length)
    switch (chance.below(6)) {
      case 0:
        out.splice(at, 1)
        break
      case 1:
        out.splice(at, 0, chance.pick(HOSTILE))
        break
      case 2:
        out[at] = chance.pick(HOSTILE)
        break
      case 3:
        out.splice(at, 0, out[chance.below(out.length)]!)
        break
      case 4: {
        // A number of the file, mostly a size, a stride or an offset.
        const numbers = out.flatMap((atom, i) => (atom.startsWith("J") ? [i] : []))
        if (numbers.length > 0)
          out[chance.pick(numbers)] = int(chance.pick([-1, 0, 1, 2, 31, 33, 64, 0x7fff_ffff, 1 << 20]))
        break
      }
      default:
        ;[out[at], out[chance.below(out.length)]] = [out[chance.below(out.length)]!, out[at]!]
    }
  }
  return out
}

/** A record of the zip file, and the directory's of it. */
interface Part {
  name: string
  data: Uint8Array
  method: number
  flags: number
  /** What the directory says of its size and place, where that is not the truth. */
  size?: number
  at?: number
}

const zip = (parts: ReadonlyArray<Part>): Buffer => {
  const pieces: Array<Uint8Array> = []
  const directory: Array<Uint8Array> = []
  let end = 0
  for (const part of parts) {
    const name = Buffer.from(part.name)
    const record = (signature: number, length: number, fields: number, size: number) => {
      const head = Buffer.alloc(length)
      head.writeUInt32LE(signature, 0)
      head.writeUInt16LE(part.flags, fields + 2)
      head.writeUInt16LE(part.method, fields + 4)
      head.writeUInt32LE(size >>> 0, fields + 14)
      head.writeUInt32LE(size >>> 0, fields + 18)
      head.writeUInt16LE(name.length, fields + 22)
      return head
    }
    const listed = record(0x02014b50, 46, 6, part.size ?? part.data.length)
    listed.writeUInt32LE((part.at ?? end) >>> 0, 42)
    directory.push(listed, name)
    const own = [record(0x04034b50, 30, 4, part.data.length), name, part.data]
    pieces.push(...own)
    end += own.reduce((sum, piece) => sum + piece.length, 0)
  }
  const tail = Buffer.alloc(22)
  tail.writeUInt32LE(0x06054b50, 0)
  tail.writeUInt16LE(parts.length, 8)
  tail.writeUInt16LE(parts.length, 10)
  tail.writeUInt32LE(
    directory.reduce((sum, piece) => sum + piece.length, 0),
    12,
  )
  tail.writeUInt32LE(end, 16)
  return Buffer.concat([...pieces, ...directory, tail])
}

const harmedParts = (chance: Chance, parts: ReadonlyArray<Part>): ReadonlyArray<Part> => {
  const out = parts.map((part) => ({ ...part }))
  const part = chance.pick(out)
  switch (chance.below(8)) {
    case 0:
      part.name = chance.pick([
        "",
        "../x",
        "top/../../x",
        "/etc/passwd",
        "top\\x",
        "top/data/-1",
        "top/data/",
        "x".repeat(60_000),
      ])
      break
    case 1:
      part.name = chance.pick(out).name
      break
    case 2:
      part.method = chance.pick([8, 12, 99])
      break
    case 3:
      part.flags = chance.pick([1, 8, 0x41, 0x800])
      break
    case 4:
      part.size = chance.pick([0, 1, part.data.length + 1, 0x7fff_ffff, 0xffff_ffff])
      break
    case 5:
      part.at = chance.pick([0, 1, 0x7fff_ffff, 0xffff_ffff])
      break
    case 6:
      part.data = chance.pick(out).data
      break
    default:
      out.splice(chance.below(out.length), 1)
  }
  return out
}

/** A file in the zip format; without a `chance` it is sound. @param repeated the first element of each storage is all */
export const zipped = (tensors: Tensors, chance?: Chance, repeated = false): Buffer => {
  const sound = state(tensors, repeated)
  const parts: ReadonlyArray<Part> = [
    ["data.pkl", bytesOf(chance?.oneIn(2) ? harmedAtoms(chance, sound) : sound)] as const,
    ["byteorder", Buffer.from("little")] as const,
    ...Object.values(tensors).map(({ data }, key) => [`data/${key}`, data] as const),
    ["version", Buffer.from("3\n")] as const,
  ].map(([name, data]) => ({ name: `top/${name}`, data, method: 0, flags: 0 }))
  return zip(chance?.oneIn(2) ? harmedParts(chance, parts) : parts)
}

const MAGIC = [PROTO, "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", "."]
const machine = [PROTO, "}", "(", string("little_endian"), "\x88", "u", "."]

/** The same in the format before PyTorch 1.6. */
export const legacy = (tensors: Tensors, chance?: Chance): Buffer => {
  const own = (atoms: Atoms) => bytesOf(chance?.oneIn(3) ? harmedAtoms(chance, atoms) : atoms)
  const values = Object.values(tensors)
  const keys = values.map((_, key) => string(String(key)))
  const storages = values.flatMap(({ data, dtype }) => {
    const count = Buffer.alloc(8)
    count.writeBigInt64LE(BigInt(data.length / SIZES[dtype]!))
    return [count, data]
  })
  return Buffer.concat([
    own(MAGIC),
    own([PROTO, "M\xe9\x03", "."]),
    own(machine),
    own(state(tensors, false)),
    own([PROTO, "]", "(", ...keys, "e", "."]),
    ...storages,
  ])
}
