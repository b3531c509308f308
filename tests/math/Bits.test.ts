import { assert, describe, it } from "@effect/vitest"
import { pack, packedBytes, unpack } from "../../src/math/Bits.ts"
import { make } from "../../src/math/Random.ts"

/** Bit by bit: bit j of code i is bit i * bits + j of the stream. */
const slow = (codes: ReadonlyArray<number>, bits: number): Uint8Array => {
  const out = new Uint8Array(Math.ceil((codes.length * bits) / 8))
  codes.forEach((code, i) => {
    for (let j = 0; j < bits; j++) {
      const at = i * bits + j
      out[at >> 3]! |= ((code >> j) & 1) << (at & 7)
    }
  })
  return out
}

describe("pack", () => {
  it("has the documented layout", () => {
    const out = new Uint8Array(3)
    pack(Uint8Array.of(1, 2, 3), 3, 4, out, 0)
    assert.deepStrictEqual([...out], [0x21, 0x03, 0])
    pack(Uint8Array.of(0b101, 0b011, 0b110), 3, 3, out, 0)
    assert.deepStrictEqual([...out.subarray(0, 2)], [0b10_011_101, 0b1])
  })

  for (let bits = 1; bits <= 8; bits++) {
    it(`${bits} bits: as the slow one, and back`, () => {
      const random = make(BigInt(bits))
      for (let count = 1; count < 70; count++) {
        const codes = Uint8Array.from({ length: count }, () => random.below(2 ** bits))
        const bytes = packedBytes(count, bits)
        const out = new Uint8Array(bytes + 4).fill(0xaa)
        pack(codes, count, bits, out, 2)
        assert.deepStrictEqual(out.subarray(2, 2 + bytes), slow([...codes], bits))
        assert.deepStrictEqual([...out.subarray(0, 2), ...out.subarray(2 + bytes)], [0xaa, 0xaa, 0xaa, 0xaa])
        const back = new Uint8Array(count)
        unpack(out, 2, count, bits, back)
        assert.deepStrictEqual(back, codes)
      }
    })
  }
})
