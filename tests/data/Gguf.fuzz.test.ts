import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Gguf from "../../src/data/Gguf.ts"
import * as GgufTokenizer from "../../src/data/GgufTokenizer.ts"
import * as TensorFile from "../../src/data/TensorFile.ts"
import { blockOf } from "../../src/math/Ggml.ts"
import * as Random from "../../src/math/Random.ts"
import { folder } from "../support/folder.ts"
import { encode, flag, floats, integers, number, string, strings } from "../support/gguf.ts"

/** A small model with a vocabulary, tensors of three types, and a value of most types. */
const whole = encode({
  keys: [
    string("general.architecture", "llama"),
    number("general.alignment", 32),
    number("llama.block_count", 1),
    string("tokenizer.ggml.model", "llama"),
    strings("tokenizer.ggml.tokens", ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁ab"]),
    floats("tokenizer.ggml.scores", [0, 0, 0, -3, -4, -5, -1, -2]),
    integers("tokenizer.ggml.token_type", [2, 3, 3, 1, 1, 1, 1, 1]),
    number("tokenizer.ggml.bos_token_id", 1),
    flag("tokenizer.ggml.add_space_prefix", true),
  ],
  tensors: [
    { name: "token_embd.weight", sizes: [8, 8], type: 0, offset: 0 },
    { name: "blk.0.attn_q.weight", sizes: [32, 2], type: 8, offset: 256 },
    { name: "output_norm.weight", sizes: [8], type: 1, offset: 352 },
  ],
  data: 368,
})
const HEADER = whole.length - 368

/** Where eight bytes in a row are a small number: most of them are lengths, counts, sizes and offsets. */
const lengths = Array.from({ length: HEADER - 8 }, (_, at) => at).filter((at) => {
  const value = new DataView(whole.buffer).getBigUint64(at, true)
  return value > 0n && value < 1000n
})
const EXTREMES = [
  0n,
  1n,
  255n,
  65_536n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
]

type Mutation = (bytes: Uint8Array<ArrayBuffer>, below: (n: number) => number) => Uint8Array
const mutations: { readonly [name: string]: Mutation } = {
  "bit flips": (bytes, below) => {
    for (let n = below(4); n >= 0; n--) bytes[below(HEADER)]! ^= 1 << below(8)
    return bytes
  },
  "bytes replaced": (bytes, below) => {
    for (let n = below(4); n >= 0; n--) bytes[below(HEADER)] = below(256)
    return bytes
  },
  truncations: (bytes, below) => bytes.subarray(0, below(bytes.length)),
  "lengths replaced": (bytes, below) => {
    new DataView(bytes.buffer).setBigUint64(lengths[below(lengths.length)]!, EXTREMES[below(EXTREMES.length)]!, true)
    return bytes
  },
  "lengths off by a little": (bytes, below) => {
    bytes[lengths[below(lengths.length)]!]! += below(17) - 8
    return bytes
  },
  "parts repeated": (bytes, below) => {
    const [from, to] = [below(HEADER), below(HEADER)]
    bytes.copyWithin(to, from, Math.min(from + below(64), HEADER))
    return bytes
  },
}

/** What a loaded file promises. */
const check = ({ catalog, metadata }: Gguf.Gguf, size: number) => {
  assert.isAtMost(metadata.size, 20)
  let end = 0
  for (const { bytes, dtype, offset, shape } of catalog.values()) {
    const block = blockOf(dtype)!
    assert.strictEqual(bytes, (shape.reduce((n, d) => n * d, 1) / block.elements) * block.bytes)
    assert.isAtLeast(offset, end)
    assert.isAtMost((end = offset + bytes), size)
  }
}

describe("a damaged file gives a typed error or a sound catalog, at once", () => {
  for (const [name, mutate] of Object.entries(mutations)) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const file = Path.join(yield* folder, "model.gguf")
        const random = Random.make(17n)
        const below = (n: number) => Math.floor(random.uniform() * n)
        const outcomes = { loaded: 0, refused: 0 }
        let slowest = 0
        const before = process.memoryUsage()
        for (let round = 0; round < 200; round++) {
          const bytes = mutate(whole.slice(), below)
          Fs.writeFileSync(file, bytes)
          const started = performance.now()
          const result = yield* Effect.result(Gguf.read(file))
          if (result._tag === "Success") {
            check(result.success, bytes.length)
            const converted = yield* Effect.result(GgufTokenizer.convert(file, result.success.metadata))
            if (converted._tag === "Failure") assert.instanceOf(converted.failure, GgufTokenizer.BadVocabulary)
            outcomes.loaded++
          } else {
            const { failure } = result
            assert.isTrue(
              failure instanceof TensorFile.BadFile || failure instanceof TensorFile.BadTensor,
              failure.message,
            )
            assert.isBelow(failure.message.length, 2000)
            outcomes.refused++
          }
          slowest = Math.max(slowest, performance.now() - started)
        }
        const after = process.memoryUsage()
        assert.isBelow(slowest, 1000)
        assert.isBelow(after.arrayBuffers + after.heapTotal - before.arrayBuffers - before.heapTotal, 256 * 2 ** 20)
        assert.isAbove(outcomes.refused, 20)
        // Some damage to names and values cannot be seen; damage to lengths nearly always can.
        assert.isAbove(outcomes.loaded, name === "truncations" ? -1 : 0, JSON.stringify(outcomes))
      }),
    )
  }
  it.effect("while the file as it was loads", () =>
    Effect.gen(function* () {
      const file = Path.join(yield* folder, "model.gguf")
      Fs.writeFileSync(file, whole)
      const gguf = yield* Gguf.read(file)
      check(gguf, whole.length)
      assert.strictEqual(gguf.catalog.size, 3)
      yield* GgufTokenizer.convert(file, gguf.metadata)
    }),
  )
})
