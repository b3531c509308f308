import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import * as Safetensors from "../../src/data/Safetensors.ts"
import * as TensorFile from "../../src/data/TensorFile.ts"
import * as Writer from "../../src/data/SafetensorsWriter.ts"
import { toF16 } from "../../src/math/Half.ts"

/** A folder of its own, gone afterwards. */
const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "safetensors-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true })),
)

/** A file from a header given as text or as JSON, and so many bytes of data. */
const raw = (header: unknown, data: number, declared?: bigint): Uint8Array => {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header))
  const bytes = new Uint8Array(8 + json.length + data)
  new DataView(bytes.buffer).setBigUint64(0, declared ?? BigInt(json.length), true)
  bytes.set(json, 8)
  return bytes
}
const f32 = (shape: ReadonlyArray<unknown>, begin: number, end: number) => ({
  dtype: "F32",
  shape,
  data_offsets: [begin, end],
})
const bytesOf = (array: Float32Array | Uint16Array) => new Uint8Array(array.buffer)

type Kind = new (...args: any) => Error

const hostile: ReadonlyArray<readonly [what: string, bytes: Uint8Array, kind: Kind, message: RegExp]> = [
  ["is empty", new Uint8Array(0), TensorFile.BadFile, /has 0 bytes; a safetensors file has at least 8/],
  [
    "ends before its header",
    raw({ a: f32([1], 0, 4) }, 0, 500n),
    TensorFile.BadFile,
    /header of 500 bytes but has only/,
  ],
  ["ends one byte before its header does", raw("{}", 0, 3n), TensorFile.BadFile, /header of 3 bytes but has only 10/],
  ["has a header beyond the limit", raw({}, 0, 100_000_001n), TensorFile.BadFile, /the format allows 100000000/],
  ["declares 2^64-1 bytes of header", raw({}, 0, 2n ** 64n - 1n), TensorFile.BadFile, /18446744073709551615 bytes/],
  ["has a header that is no JSON", raw("{nope}", 0), TensorFile.BadFile, /header that is not JSON/],
  ["has a header cut short", raw({ a: f32([1], 0, 4) }, 4, 9n), TensorFile.BadFile, /header that is not JSON/],
  ["has a header that is a list", raw([], 0), TensorFile.BadFile, /no JSON object/],
  ["has a header that is not UTF-8", raw("{}", 0).fill(0xff, 8), TensorFile.BadFile, /not UTF-8/],
  [
    "names a tensor twice",
    raw(`{"a":${JSON.stringify(f32([1], 0, 4))},"\\u0061":${JSON.stringify(f32([1], 4, 8))}}`, 8),
    TensorFile.BadFile,
    /names "a" twice/,
  ],
  [
    "has a tensor without description",
    raw({ a: null }, 0),
    TensorFile.BadTensor,
    /tensor a has the dtype none; known: BOOL/,
  ],
  [
    "has an unknown dtype",
    raw({ a: { ...f32([1], 0, 4), dtype: "F13" } }, 4),
    TensorFile.BadTensor,
    /dtype "F13"; known: .*BF16/,
  ],
  [
    "has a dtype of Object's own",
    raw({ a: { ...f32([1], 0, 4), dtype: "toString" } }, 4),
    TensorFile.BadTensor,
    /dtype "toString"/,
  ],
  [
    "has a negative size",
    raw({ a: f32([-1], 0, 4) }, 4),
    TensorFile.BadTensor,
    /shape \[-1\]; expected a list of sizes/,
  ],
  ["has a size that is no integer", raw({ a: f32([1.5], 0, 6) }, 6), TensorFile.BadTensor, /shape \[1.5\]/],
  ["has a size that is text", raw({ a: f32(["1"], 0, 4) }, 4), TensorFile.BadTensor, /shape \["1"\]/],
  ["has no shape", raw({ a: { dtype: "F32", data_offsets: [0, 4] } }, 4), TensorFile.BadTensor, /shape none/],
  [
    "has one offset",
    raw({ a: { ...f32([1], 0, 4), data_offsets: [0] } }, 4),
    TensorFile.BadTensor,
    /expected \[begin, end\]/,
  ],
  ["has negative offsets", raw({ a: f32([1], -4, 0) }, 4), TensorFile.BadTensor, /data_offsets \[-4,0\]/],
  ["has offsets in reverse", raw({ a: f32([1], 4, 0) }, 4), TensorFile.BadTensor, /spans -4 bytes; F32 \[1\] takes 4/],
  [
    "has a shape its bytes do not fill",
    raw({ a: f32([2, 2], 0, 12) }, 12),
    TensorFile.BadTensor,
    /spans 12 bytes; F32 \[2, 2\] takes 16/,
  ],
  [
    "has bytes its shape does not need",
    raw({ a: f32([2], 0, 12) }, 12),
    TensorFile.BadTensor,
    /spans 12 bytes; F32 \[2\] takes 8/,
  ],
  ["has a shape that overflows", raw({ a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4), TensorFile.BadTensor, /spans 4 bytes/],
  [
    "is truncated",
    raw({ a: f32([4], 0, 16) }, 15),
    TensorFile.BadTensor,
    /ends at byte 16 of the data, of which the file holds 15/,
  ],
  [
    "has overlapping tensors",
    raw({ a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12),
    TensorFile.BadTensor,
    /tensor b begins .* inside the tensor before it/,
  ],
  [
    "has a gap",
    raw({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12),
    TensorFile.BadTensor,
    /tensor b begins .* after a gap/,
  ],
  ["begins with a gap", raw({ a: f32([1], 4, 8) }, 8), TensorFile.BadTensor, /tensor a begins .* after a gap/],
  [
    "has bytes after the last tensor",
    raw({ a: f32([1], 0, 4) }, 9),
    TensorFile.BadFile,
    /has 5 bytes after its last tensor/,
  ],
]

describe("a file that", () => {
  for (const [what, bytes, kind, message] of hostile) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const file = Path.join(yield* folder, "model.safetensors")
        Fs.writeFileSync(file, bytes)
        const error = yield* Effect.flip(Safetensors.read(file))
        assert.instanceOf(error, kind)
        assert.match(error.message, message)
        assert.include(error.message, file)
      }),
    )
  }
  it.effect("is not there", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Safetensors.read("/nowhere/model.safetensors"))
      assert.instanceOf(error, TensorFile.Unreadable)
      assert.match(error.message, /\/nowhere\/model.safetensors cannot be read: ENOENT/)
    }),
  )
})

const weights = Float32Array.from({ length: 24 }, (_, i) => (i - 12) / 8)
const halves = new Uint16Array(24)
toF16(weights, halves)
const brains = Uint16Array.from(new Uint32Array(weights.buffer), (bits) => bits >>> 16)
const tensors = {
  "model.wide": { dtype: "F32", shape: [4, 6], data: bytesOf(weights) },
  "model.half": { dtype: "F16", shape: [24], data: bytesOf(halves) },
  brain: { dtype: "BF16", shape: [2, 3, 4], data: bytesOf(brains) },
  ids: { dtype: "BOOL", shape: [1], data: new Uint8Array(1).fill(1) },
  flags: { dtype: "BOOL", shape: [3], data: Uint8Array.of(1, 0, 1) },
  scalar: { dtype: "F32", shape: [], data: bytesOf(Float32Array.of(7)) },
  nothing: { dtype: "F32", shape: [0, 5], data: new Uint8Array(0) },
}

describe("a round trip", () => {
  it.effect("finds every tensor", () =>
    Effect.gen(function* () {
      const file = Path.join(yield* folder, "model.safetensors")
      yield* Writer.write(file, tensors)
      const catalog = yield* Safetensors.read(file)
      assert.deepStrictEqual(new Set(catalog.keys()), new Set(Object.keys(tensors)))
      const bytes = Fs.readFileSync(file)
      for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
        const entry = catalog.get(name)!
        assert.deepStrictEqual([entry.dtype, entry.shape, entry.file], [dtype, shape, file])
        assert.deepStrictEqual(new Uint8Array(bytes.subarray(entry.offset, entry.offset + entry.bytes)), data)
      }
    }),
  )

  it.effect("an empty tensor may stand anywhere between others", () =>
    Effect.gen(function* () {
      const file = Path.join(yield* folder, "model.safetensors")
      Fs.writeFileSync(file, raw({ b: f32([1], 0, 4), a: f32([0], 0, 0), c: f32([0, 2], 4, 4) }, 4))
      assert.deepStrictEqual([...(yield* Safetensors.read(file)).keys()], ["a", "b", "c"])
    }),
  )

  it("has the same bytes whatever the order", () => {
    const reversed = Object.fromEntries(Object.entries(tensors).toReversed())
    assert.deepStrictEqual(Writer.encode(reversed), Writer.encode(tensors))
  })

  it.effect("reads slices as float32, into shared memory too", () =>
    Effect.gen(function* () {
      const file = Path.join(yield* folder, "model.safetensors")
      yield* Writer.write(file, tensors)
      const catalog = yield* Safetensors.read(file)
      const out = new Float32Array(new SharedArrayBuffer(4 * 30), 8, 26).fill(9)
      for (const name of ["model.wide", "model.half", "brain"]) {
        TensorFile.readFloats(catalog.get(name)!, 0, 24, out)
        assert.deepStrictEqual([...out], [...weights, 9, 9], name)
        TensorFile.readFloats(catalog.get(name)!, 7, 5, out)
        assert.deepStrictEqual([...out.subarray(0, 6)], [...weights.subarray(7, 12), weights[5]], name)
      }
      TensorFile.readFloats(catalog.get("nothing")!, 0, 0, out)
    }),
  )

  it.effect("reads tensors of many chunks", () =>
    Effect.gen(function* () {
      const file = Path.join(yield* folder, "model.safetensors")
      const many = Float32Array.from({ length: 1_500_001 }, (_, i) => i % 2039)
      const narrow = new Uint16Array(many.length)
      toF16(many, narrow)
      yield* Writer.write(file, {
        a: { dtype: "F32", shape: [many.length], data: bytesOf(many) },
        b: { dtype: "F16", shape: [many.length], data: bytesOf(narrow) },
      })
      const catalog = yield* Safetensors.read(file)
      for (const name of ["a", "b"]) {
        const out = new Float32Array(many.length - 3)
        TensorFile.readFloats(catalog.get(name)!, 3, out.length, out)
        assert.deepStrictEqual(out, many.subarray(3))
      }
    }),
  )

  it.effect("refuses what is no weight, what is out of range, and what has changed", () =>
    Effect.gen(function* () {
      const file = Path.join(yield* folder, "model.safetensors")
      yield* Writer.write(file, tensors)
      const catalog = yield* Safetensors.read(file)
      const out = new Float32Array(24)
      assert.throws(
        () => TensorFile.readFloats(catalog.get("ids")!, 0, 1, out),
        TensorFile.UnsupportedDtype,
        "tensor ids is BOOL; that is no type of weights",
      )
      const wide = catalog.get("model.wide")!
      assert.throws(() => TensorFile.readFloats(wide, 1, 24, out), RangeError, "elements 1 to 25 of model.wide")
      assert.throws(() => TensorFile.readFloats(wide, 0, 24, new Float32Array(23)), RangeError)
      Fs.truncateSync(file, wide.offset + 10)
      assert.throws(
        () => TensorFile.readFloats(wide, 0, 24, out),
        TensorFile.Unreadable,
        "ends inside tensor model.wide",
      )
      Fs.rmSync(file)
      assert.throws(() => TensorFile.readFloats(wide, 0, 24, out), TensorFile.Unreadable, "ENOENT")
    }),
  )
})

/** Write the files and an index beside them, and read the index. */
const read = (index: unknown, shards: { readonly [file: string]: Uint8Array }) =>
  Effect.gen(function* () {
    const path = yield* folder
    for (const [name, bytes] of Object.entries(shards)) Fs.writeFileSync(Path.join(path, name), bytes)
    const file = Path.join(path, "model.safetensors.index.json")
    Fs.writeFileSync(file, typeof index === "string" ? index : JSON.stringify(index))
    return yield* Safetensors.read(file)
  })
const shard = (names: ReadonlyArray<string>) =>
  Writer.encode(
    Object.fromEntries(names.map((name) => [name, { dtype: "F32", shape: [1], data: bytesOf(Float32Array.of(1)) }])),
  )

describe("an index", () => {
  const shards = { "1.safetensors": shard(["a", "b"]), "2.safetensors": shard(["constructor"]) }
  const map = { a: "1.safetensors", b: "1.safetensors", constructor: "2.safetensors" }

  it.effect("gathers its files", () =>
    Effect.gen(function* () {
      const catalog = yield* read({ metadata: { total_size: 12 }, weight_map: map }, shards)
      assert.deepStrictEqual([...catalog.keys()], ["a", "b", "constructor"])
      assert.match(catalog.get("constructor")!.file, /2\.safetensors$/)
    }),
  )
  it.effect("of a real checkpoint", () =>
    Effect.gen(function* () {
      const index = fileURLToPath(new URL("../golden/families/llama/mha/model.safetensors.index.json", import.meta.url))
      const catalog = yield* Safetensors.read(index)
      assert.isTrue(catalog.has("model.embed_tokens.weight"))
      assert.isAbove(new Set(Array.from(catalog.values(), ({ file }) => file)).size, 1)
    }),
  )

  const wrong: ReadonlyArray<readonly [what: string, index: unknown, kind: Kind, message: RegExp]> = [
    ["is not JSON", "{", TensorFile.BadFile, /index\.json is not JSON/],
    ["has no weight_map", {}, TensorFile.BadFile, /no weight_map/],
    ["has a list as weight_map", { weight_map: ["a"] }, TensorFile.BadFile, /no weight_map/],
    [
      "names a tensor twice",
      '{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}',
      TensorFile.BadFile,
      /names "a" twice/,
    ],
    [
      "names a missing file",
      { weight_map: { ...map, c: "3.safetensors" } },
      TensorFile.Unreadable,
      /3\.safetensors cannot be read: ENOENT/,
    ],
    [
      "leaves the folder",
      { weight_map: { a: "../1.safetensors" } },
      TensorFile.BadTensor,
      /tensor a is said to be in "..\/1.safetensors"; expected the name of a file beside/,
    ],
    [
      "leaves the folder, as Windows does",
      { weight_map: { a: "..\\1.safetensors" } },
      TensorFile.BadTensor,
      /expected the name of a file/,
    ],
    [
      "names an absolute path",
      { weight_map: { a: "/etc/passwd" } },
      TensorFile.BadTensor,
      /expected the name of a file/,
    ],
    ["names the folder", { weight_map: { a: ".." } }, TensorFile.BadTensor, /expected the name of a file/],
    ["names a number", { weight_map: { a: 1 } }, TensorFile.BadTensor, /said to be in 1;/],
    [
      "names a file that lacks the tensor",
      { weight_map: { ...map, c: "2.safetensors" } },
      TensorFile.BadTensor,
      /tensor c is said to be in 2.safetensors, which does not hold it/,
    ],
    [
      "forgets a tensor",
      { weight_map: { a: "1.safetensors" } },
      TensorFile.BadTensor,
      /tensor b is in 1.safetensors, but the index does not name it/,
    ],
  ]
  for (const [what, index, kind, message] of wrong) {
    it.effect(`that ${what}`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(read(index, shards))
        assert.instanceOf(error, kind)
        assert.match(error.message, message)
      }),
    )
  }
  it.effect("whose files both hold a tensor", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        read({ weight_map: map }, { ...shards, "2.safetensors": shard(["constructor", "a"]) }),
      )
      assert.match(error.message, /tensor a is in 2.safetensors, but the index says it is in 1.safetensors/)
    }),
  )
})
