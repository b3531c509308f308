/** Damaged files: each is refused with a typed error, or read as tensors that lie inside the file. Soon, either way. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { DTYPE_BYTES } from "../../src/data/Safetensors.ts"
import { BadFile, BadTensor, Unreadable } from "../../src/data/TensorFile.ts"
import * as TorchFile from "../../src/data/TorchFile.ts"
import { gather } from "../../src/math/Strided.ts"
import * as Random from "../../src/math/Random.ts"
import { folder } from "../support/folder.ts"

const files = ["zip-2.bin", "zip-4.bin", "legacy-2.bin", "legacy-4.bin", "narrow.bin", "extra.bin"]
const bytesOf = (name: string) => readFileSync(fileURLToPath(new URL(`../golden/torch/${name}`, import.meta.url)))
const MUTATIONS = 400

const EXTREMES = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff]

/** Bytes between here and there: where most is said, the pickle or the zip file's directory. */
const telling = (bytes: Buffer): readonly [from: number, to: number] => {
  const pickle = bytes.indexOf(Buffer.from("_rebuild_tensor_v"))
  return [Math.max(0, pickle - 100), Math.min(bytes.length, pickle + 2500)]
}

const damaged = (random: Random.Random, whole: Uint8Array, other: Uint8Array) => {
  const bytes = Buffer.from(whole)
  const [from, to] = telling(bytes)
  const directory = bytes.indexOf(Buffer.from("PK\x01\x02", "latin1"))
  const anywhere = () => random.below(bytes.length)
  const place = () => {
    const where = random.below(3)
    if (where === 0) return anywhere()
    if (where === 1 && directory >= 0) return directory + random.below(bytes.length - directory)
    return from + random.below(to - from)
  }
  const cut = (at: number, remove: number, insert: Uint8Array) =>
    Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(Math.min(bytes.length, at + remove))])
  const kind = random.below(7)
  const at = place()
  if (kind === 0) bytes[at]! ^= 1 << random.below(8)
  else if (kind === 1) bytes[at] = random.below(256)
  else if (kind === 2) {
    const extreme = Buffer.alloc(4)
    extreme.writeUInt32LE(EXTREMES[random.below(EXTREMES.length)]!)
    extreme.copy(bytes, at, 0, [1, 2, 4][random.below(3)])
  } else if (kind === 3) return bytes.subarray(0, at)
  else if (kind === 4) return cut(at, 1 + random.below(20), new Uint8Array(0))
  else if (kind === 5) {
    const start = place()
    return cut(at, 0, bytes.subarray(start, start + 1 + random.below(40)))
  } else {
    const start = random.below(other.length)
    const piece = other.subarray(start, start + 1 + random.below(60))
    return cut(at, piece.length, piece)
  }
  return bytes
}

/** The tensor lies inside the file, and its elements can be had. */
const sound = (entry: TorchFile.Entry, bytes: Uint8Array) => {
  const { bytes: length, dtype, offset, shape, strides } = entry
  const size = DTYPE_BYTES[dtype]!
  const elements = shape.reduce((n, d) => n * d, 1)
  assert.isTrue(Number.isSafeInteger(elements * size), `${shape}`)
  assert.isAtLeast(offset, 0)
  assert.isAtMost(offset + length, bytes.length)
  if (strides === undefined) assert.strictEqual(length, elements * size)
  else if (elements < 1e5) {
    gather(bytes.subarray(offset, offset + length), size, shape, strides, new Uint8Array(elements * size))
  }
}

describe("a damaged file", () => {
  for (const [i, name] of files.entries()) {
    it.effect(
      name,
      () =>
        Effect.gen(function* () {
          const random = Random.make(BigInt(1000 + i))
          const whole = bytesOf(name)
          const other = bytesOf(files[(i + 1) % files.length]!)
          const file = join(yield* folder, name)
          const before = process.memoryUsage().rss
          let refused = 0
          for (let mutation = 0; mutation < MUTATIONS; mutation++) {
            let bytes: Uint8Array = whole
            for (let harm = random.below(3); harm >= 0; harm--) bytes = damaged(random, bytes, other)
            writeFileSync(file, bytes)
            const start = performance.now()
            yield* Effect.match(TorchFile.read(file), {
              onSuccess: (catalog) => {
                for (const entry of catalog.values()) sound(entry, bytes)
              },
              onFailure: (error) => {
                refused++
                assert.isTrue(
                  [BadFile, BadTensor, Unreadable].some((kind) => error instanceof kind),
                  error.message,
                )
                assert.include(error.message, file)
                // Only a zip library or a file system that was led astray would say so.
                assert.notMatch(error.message, /undefined|NaN|is not a function|out of range/)
              },
            })
            assert.isBelow(performance.now() - start, 5000, `mutation ${mutation}`)
          }
          assert.isAbove(refused, MUTATIONS / 3)
          assert.isBelow(process.memoryUsage().rss - before, 500e6)
        }),
      60_000,
    )
  }
})
