import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import * as Gguf from "../../src/data/Gguf.ts"
import * as Safetensors from "../../src/data/Safetensors.ts"
import * as TensorFile from "../../src/data/TensorFile.ts"
import * as Transform from "../../src/math/Transform.ts"
import { folder } from "../support/folder.ts"
import { encode, floats, header, join, number, string, strings, text, u32, u64, type Tensor } from "../support/gguf.ts"

const read = Effect.fnUntraced(function* (bytes: Uint8Array) {
  const file = Path.join(yield* folder, "model.gguf")
  Fs.writeFileSync(file, bytes)
  return yield* Gguf.read(file)
})
const f32 = (name: string, sizes: Tensor["sizes"], offset: number | bigint): Tensor => ({
  name,
  sizes,
  type: 0,
  offset,
})
/** A key whose value is given byte by byte. */
const raw = (type: number, ...value: ReadonlyArray<Uint8Array>) => [{ key: "k", type, value: join(...value) }]
const one = (tensor: Partial<Tensor>, data = 64) => encode({ tensors: [{ ...f32("a", [4], 0), ...tensor }], data })

type Kind = new (...args: any) => Error
const hostile: ReadonlyArray<readonly [what: string, bytes: Uint8Array, kind: Kind, message: RegExp]> = [
  ["is empty", new Uint8Array(0), TensorFile.BadFile, /has 0 bytes; a GGUF file has at least 24/],
  ["is no GGUF", encode({}).fill(65, 0, 4), TensorFile.BadFile, /begins with the bytes 65, 65, 65, 65/],
  ["is of version 1", encode({ version: 1 }), TensorFile.BadFile, /GGUF version 1, which is obsolete/],
  ["is of version 4", encode({ version: 4 }), TensorFile.BadFile, /GGUF version 4; known: 2 and 3/],
  ["is big-endian", encode({ version: 3 << 24 }), TensorFile.BadFile, /big-endian/],
  [
    "declares 2^64-1 tensors",
    join(header({}).subarray(0, 8), u64(2n ** 64n - 1n), u64(0)),
    TensorFile.BadFile,
    /declares 18446744073709551615 tensors of at least 24 bytes each, but only 8 bytes follow/,
  ],
  ["declares a key too many", join(header({}).subarray(0, 16), u64(1)), TensorFile.BadFile, /declares 1 keys/],
  [
    "has a key name beyond its end",
    join(header({}).subarray(0, 16), u64(1), u64(2n ** 63n), new Uint8Array(8)),
    TensorFile.BadFile,
    /declares 9223372036854775808 bytes of the name of a key/,
  ],
  [
    "has a key name of 65,536 bytes",
    encode({ keys: [number("k".repeat(65_536), 1)] }),
    TensorFile.BadFile,
    /^.{1,200}the name of a key of more than 65535 bytes$/,
  ],
  [
    "has a key name that is not UTF-8",
    encode({ keys: [{ ...string("k", ""), key: "k" }] }).fill(0xff, 32, 33),
    TensorFile.BadFile,
    /the name of a key that is not UTF-8/,
  ],
  [
    "declares more texts than it could hold",
    encode({ keys: raw(9, u32(8), u64(10), new Uint8Array(40)) }),
    TensorFile.BadFile,
    /declares 10 values of the key "k" of at least 8 bytes each, but only 47 bytes follow/,
  ],
  [
    "has a shape whose product overflows",
    encode({ tensors: [f32("a", [30_000, 30_000, 30_000, 30_000], 0)], data: 4000 }),
    TensorFile.BadTensor,
    /tensor a ends at byte 3240000000000000000 of the file, which has 4096/,
  ],
  ["has a key twice", encode({ keys: [number("k", 1), string("k", "")] }), TensorFile.BadFile, /the key "k" twice/],
  [
    "has a value of an unknown type",
    encode({ keys: raw(13, u64(0)) }),
    TensorFile.BadFile,
    /the key "k" of the type 13/,
  ],
  [
    "has an array of arrays",
    encode({ keys: raw(9, u32(9), u64(1), u64(0)) }),
    TensorFile.BadFile,
    /no arrays of arrays/,
  ],
  [
    "has an array beyond its end",
    encode({ keys: raw(9, u32(10), u64(2n ** 61n)) }),
    TensorFile.BadFile,
    /declares 2305843009213693952 values of the key "k" of at least 8 bytes/,
  ],
  [
    "has text beyond its end",
    encode({ keys: raw(8, u64(1000)) }),
    TensorFile.BadFile,
    /declares 1000 bytes of the key "k"/,
  ],
  [
    "has text that is not UTF-8",
    encode({ keys: raw(8, text(Uint8Array.of(0xc0))) }),
    TensorFile.BadFile,
    /the key "k" that is not UTF-8/,
  ],
  ["has a truth value of 2", encode({ keys: raw(7, Uint8Array.of(2)) }), TensorFile.BadFile, /neither true nor false/],
  [
    "ends inside a value",
    header({ keys: [number("k", 1)] }).subarray(0, -1),
    TensorFile.BadFile,
    /ends inside the key "k"/,
  ],
  ...[0, 4, 24, 33].map(
    (alignment) =>
      [
        `is aligned to ${alignment}`,
        encode({ keys: [number("general.alignment", alignment)] }),
        TensorFile.BadFile,
        /general.alignment \d+; expected a power of two from 8 on/,
      ] as const,
  ),
  [
    "is aligned to text",
    encode({ keys: [string("general.alignment", "32")] }),
    TensorFile.BadFile,
    /general.alignment 32; expected a power/,
  ],
  ["is one of several", encode({ keys: [number("split.count", 3)] }), TensorFile.BadFile, /one of 3 parts of a model/],
  [
    "has a tensor twice",
    encode({ tensors: [f32("a", [1], 0), f32("a", [1], 32)], data: 64 }),
    TensorFile.BadFile,
    /the tensor "a" twice/,
  ],
  [
    "has five dimensions",
    one({ sizes: [1, 1, 1, 1, 1] }),
    TensorFile.BadTensor,
    /tensor a has 5 dimensions; ggml allows 4/,
  ],
  [
    "has 2^31 dimensions",
    join(header({ tensors: [f32("a", [], 0)] }).subarray(0, 33), u32(2 ** 31), u64(0)),
    TensorFile.BadTensor,
    /has 2147483648 dimensions/,
  ],
  [
    "has a shape that overflows",
    one({ sizes: [2n ** 40n, 2n ** 40n] }),
    TensorFile.BadTensor,
    /more than the file could hold/,
  ],
  [
    "has a shape that overflows in disguise",
    one({ sizes: [2n ** 60n, 0] }),
    TensorFile.BadTensor,
    /more than the file could hold/,
  ],
  [
    "has an unsupported type",
    one({ type: 16 }),
    TensorFile.BadTensor,
    /the ggml type IQ2_XXS, which is not supported; known: F32, F16/,
  ],
  ["has an unknown type", one({ type: 999 }), TensorFile.BadTensor, /the unknown ggml type 999; known: F32/],
  ["has a type that was removed", one({ type: 4 }), TensorFile.BadTensor, /the unknown ggml type 4/],
  [
    "has rows of half a block",
    one({ type: 8, sizes: [48, 2] }),
    TensorFile.BadTensor,
    /rows of 48 elements; blocks of Q8_0 have 32/,
  ],
  ["has a quantized scalar", one({ type: 8, sizes: [] }), TensorFile.BadTensor, /rows of 1 elements/],
  [
    "has an offset off the grid",
    one({ offset: 16 }),
    TensorFile.BadTensor,
    /begins at byte 16 of the data; expected a multiple of 32/,
  ],
  [
    "has an offset of 2^64-1",
    one({ offset: 2n ** 64n - 1n }),
    TensorFile.BadTensor,
    /begins at byte 18446744073709551615/,
  ],
  ["is truncated", one({ sizes: [17] }), TensorFile.BadTensor, /tensor a ends at byte 132 of the file, which has 128/],
  ["ends before its data", header({ tensors: [f32("a", [1], 0)] }), TensorFile.BadTensor, /tensor a ends at byte/],
  [
    "has overlapping tensors",
    encode({ tensors: [f32("b", [1], 32), f32("a", [9], 0)], data: 64 }),
    TensorFile.BadTensor,
    /tensor b begins at byte \d+ of the file, inside the tensor before it/,
  ],
]

describe("a file that", () => {
  for (const [what, bytes, kind, message] of hostile) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(read(bytes))
        assert.instanceOf(error, kind)
        assert.match(error.message, message)
        assert.match(error.message, /model\.gguf/)
      }),
    )
  }
  it.effect("is not there", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Gguf.read("/nowhere/model.gguf"))
      assert.instanceOf(error, TensorFile.Unreadable)
      assert.match(error.message, /\/nowhere\/model.gguf cannot be read: ENOENT/)
    }),
  )
})

describe("metadata", () => {
  const array = (type: number, count: number, stored: Uint8Array) => join(u32(type), u64(count), stored)
  const view = (values: ArrayBufferView<ArrayBuffer>) => new Uint8Array(values.buffer)
  const cases: ReadonlyArray<readonly [type: number, stored: Uint8Array, value: Gguf.Value]> = [
    [0, Uint8Array.of(200), 200],
    [1, Uint8Array.of(200), -56],
    [2, view(Uint16Array.of(60_000)), 60_000],
    [3, view(Int16Array.of(-2)), -2],
    [4, u32(4_000_000_000), 4_000_000_000],
    [5, view(Int32Array.of(-7)), -7],
    [6, view(Float32Array.of(0.1)), Math.fround(0.1)],
    [7, Uint8Array.of(1), true],
    [7, Uint8Array.of(0), false],
    [8, text("é\ufeff"), "é\ufeff"],
    [8, text("\ufeff"), "\ufeff"],
    [10, u64(2 ** 53 - 1), 2 ** 53 - 1],
    [10, u64(2n ** 64n - 1n), 2n ** 64n - 1n],
    [11, view(BigInt64Array.of(-5n)), -5],
    [11, view(BigInt64Array.of(-(2n ** 60n))), -(2n ** 60n)],
    [12, view(Float64Array.of(0.1)), 0.1],
    [9, array(8, 3, join(text("a"), text(""), text("▁b"))), ["a", "", "▁b"]],
    [9, array(8, 0, new Uint8Array(0)), []],
    [9, array(6, 2, view(Float32Array.of(1, -Infinity))), Float32Array.of(1, -Infinity)],
    [9, array(5, 2, view(Int32Array.of(1, -1))), Int32Array.of(1, -1)],
    [9, array(0, 2, Uint8Array.of(1, 2)), Uint8Array.of(1, 2)],
    [9, array(7, 2, Uint8Array.of(1, 0)), [true, false]],
    [9, array(10, 2, join(u64(3), u64(2n ** 63n))), [3, 2n ** 63n]],
  ]
  it.effect("of every type, after a name of any length", () =>
    Effect.gen(function* () {
      const keys = cases.map(([type, value], i) => ({ key: "k".repeat(i + 1), type, value }))
      for (const version of [2, 3]) {
        const { metadata, catalog } = yield* read(encode({ version, keys }))
        assert.deepStrictEqual(
          [...metadata.values()],
          cases.map(([, , value]) => value),
        )
        assert.deepStrictEqual(
          [...metadata.keys()],
          keys.map(({ key }) => key),
        )
        assert.strictEqual(catalog.size, 0)
      }
    }),
  )
  it.effect("larger than what is read at once, and quickly", () =>
    Effect.gen(function* () {
      const tokens = Array.from({ length: 300_000 }, (_, i) => `▁token${i}`)
      const long = "x".repeat(3_000_000)
      const bytes = encode({
        keys: [
          strings("tokens", tokens),
          string("long", long),
          floats(
            "scores",
            tokens.map((_, i) => -i),
          ),
        ],
      })
      const started = performance.now()
      const { metadata } = yield* read(bytes)
      assert.isBelow(performance.now() - started, 10_000)
      assert.deepStrictEqual(metadata.get("tokens"), tokens)
      assert.strictEqual(metadata.get("long"), long)
      assert.strictEqual((metadata.get("scores") as Float32Array)[299_999], -299_999)
    }),
  )
})

describe("the catalog", () => {
  it.effect("has row-major shapes and whole blocks, in the order of the data", () =>
    Effect.gen(function* () {
      const tensors: ReadonlyArray<Tensor> = [
        { name: "late", sizes: [64, 3, 2], type: 8, offset: 128 },
        f32("empty", [5, 0], 64),
        { name: "scalar", sizes: [], type: 0, offset: 0 },
        { name: "wide", sizes: [256, 1], type: 14, offset: 640 },
        { name: "half", sizes: [3], type: 1, offset: 64 },
      ]
      const bytes = encode({ keys: [number("general.alignment", 64)], tensors, data: 850, alignment: 64 })
      const { catalog } = yield* read(bytes)
      const start = bytes.length - 850
      assert.strictEqual(start % 64, 0)
      assert.deepStrictEqual(
        [...catalog].map(([name, { tensor, file, ...entry }]) => {
          assert.strictEqual(tensor, name)
          assert.match(file, /model\.gguf$/)
          return [name, { ...entry, offset: entry.offset - start }]
        }),
        [
          ["scalar", { dtype: "F32", shape: [], offset: 0, bytes: 4 }],
          ["empty", { dtype: "F32", shape: [0, 5], offset: 64, bytes: 0 }],
          ["half", { dtype: "F16", shape: [3], offset: 64, bytes: 6 }],
          ["late", { dtype: "Q8_0", shape: [2, 3, 64], offset: 128, bytes: 408 }],
          ["wide", { dtype: "Q6_K", shape: [1, 256], offset: 640, bytes: 210 }],
        ],
      )
    }),
  )
  it.effect("of a file without tensors may lack the padding", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* read(header({ keys: [number("k", 1)] }))).catalog.size, 0)
    }),
  )
})

/** A real checkpoint in both formats, where it lies beside the project. */
const beside = new URL("../../../shared/models/llama-stories260K/", import.meta.url)
const gguf = new URL("stories260K-f32.gguf", beside)
const safetensors = new URL("hf/model.safetensors", beside)
const NAMES: ReadonlyArray<readonly [RegExp, string]> = [
  [/^token_embd\./, "model.embed_tokens."],
  [/^output_norm\./, "model.norm."],
  [/^output\./, "lm_head."],
  [/^blk\.(\d+)\.attn_(q|k|v)\./, "model.layers.$1.self_attn.$2_proj."],
  [/^blk\.(\d+)\.attn_output\./, "model.layers.$1.self_attn.o_proj."],
  [/^blk\.(\d+)\.attn_norm\./, "model.layers.$1.input_layernorm."],
  [/^blk\.(\d+)\.ffn_norm\./, "model.layers.$1.post_attention_layernorm."],
  [/^blk\.(\d+)\.ffn_(gate|up|down)\./, "model.layers.$1.mlp.$2_proj."],
]

describe("a real model", () => {
  it.effect("is the same as its safetensors, once the rows of queries and keys are back in order", (context) =>
    Effect.gen(function* () {
      const missing = [gguf, safetensors].find((url) => !Fs.existsSync(url))
      if (missing !== undefined) return context.skip(`no ${fileURLToPath(missing)}`)
      const { catalog, metadata } = yield* Gguf.read(fileURLToPath(gguf))
      const expected = yield* Safetensors.read(fileURLToPath(safetensors))
      const floatsOf = (entry: TensorFile.Entry) => {
        const out = new Float32Array(entry.bytes / 4)
        TensorFile.readFloats(entry, 0, out.length, out)
        return out
      }
      let permuted = 0
      for (const entry of catalog.values()) {
        const [pattern, replacement] = NAMES.find(([pattern]) => pattern.test(entry.tensor))!
        const name = entry.tensor.replace(pattern, replacement)
        const other = expected.get(name)
        // The embedding is tied: safetensors holds it once.
        const twin = other ?? expected.get("model.embed_tokens.weight")!
        assert.isTrue(other !== undefined || name === "lm_head.weight", name)
        assert.deepStrictEqual(entry.shape, twin.shape)
        const stored = floatsOf(entry)
        const kind = /attn_(q|k)\.weight/.exec(entry.tensor)?.[1]
        if (kind !== undefined) {
          const heads = metadata.get(kind === "q" ? "llama.attention.head_count" : "llama.attention.head_count_kv")
          const out = Transform.apply({ kind: "unpermute", heads: heads as number }, stored, entry.shape[0]!)
          assert.notDeepEqual(stored, out)
          stored.set(out)
          permuted++
        }
        assert.deepStrictEqual(stored, floatsOf(twin), name)
      }
      assert.deepStrictEqual([catalog.size, permuted], [48, 10])
    }),
  )
})
