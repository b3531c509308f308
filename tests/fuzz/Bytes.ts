/** Harm to bytes that knows nothing of their format, and to the numbers and lengths that most formats have. */
import type { Chance } from "./Chance.ts"

const EXTREMES = [0n, 1n, 127n, 255n, 65_535n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]

/** Where eight bytes in a row are a small number: most of them are lengths, counts, sizes and offsets. */
const counts = (bytes: Buffer): ReadonlyArray<number> => {
  const end = Math.min(bytes.length - 8, 20_000)
  const found: Array<number> = []
  for (let at = 0; at < end; at++) {
    if (bytes.readUInt32LE(at + 4) === 0 && bytes.readUInt32LE(at) - 1 < 100_000) found.push(at)
  }
  return found
}

/** Most is said at the beginning and at the end. */
const place = (chance: Chance, length: number): number => {
  const [where, near] = [chance.below(3), chance.below(Math.min(length, 4096))]
  return where === 0 ? chance.below(length) : where === 1 ? near : length - 1 - near
}

const once = (chance: Chance, bytes: Buffer, other: Uint8Array): Buffer => {
  if (bytes.length === 0) return Buffer.from(other.subarray(0, 100))
  const at = place(chance, bytes.length)
  const cut = (remove: number, insert: Uint8Array) =>
    Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(Math.min(bytes.length, at + remove))])
  switch (chance.below(8)) {
    case 0:
      for (let n = chance.below(4); n >= 0; n--) bytes[place(chance, bytes.length)]! ^= 1 << chance.below(8)
      return bytes
    case 1:
      bytes[at] = chance.below(256)
      return bytes
    case 2: {
      const extreme = Buffer.alloc(8)
      extreme.writeBigUInt64LE(chance.pick(EXTREMES))
      extreme.copy(bytes, at, 0, chance.pick([1, 2, 4, 8]))
      return bytes
    }
    case 3: {
      const places = counts(bytes)
      if (places.length === 0) return bytes
      const where = chance.pick(places)
      if (chance.oneIn(2)) bytes.writeBigUInt64LE(chance.pick(EXTREMES), where)
      else bytes[where]! += chance.below(17) - 8
      return bytes
    }
    case 4:
      return Buffer.from(bytes.subarray(0, at))
    case 5:
      return cut(1 + chance.below(20), new Uint8Array(0))
    case 6:
      return cut(0, bytes.subarray(at, at + 1 + chance.below(40)))
    default: {
      const start = place(chance, Math.max(1, other.length))
      const piece = other.subarray(start, start + 1 + chance.below(chance.oneIn(4) ? 4000 : 60))
      return cut(chance.oneIn(2) ? piece.length : 0, piece)
    }
  }
}

/** One to three of: bits flipped, bytes replaced, removed, repeated, taken from another file, lengths made extreme, the end cut off. */
export const harmed = (chance: Chance, sound: Uint8Array, other: Uint8Array): Buffer => {
  let bytes: Buffer = Buffer.from(sound)
  for (let n = chance.below(3); n >= 0; n--) bytes = once(chance, bytes, other)
  return bytes
}
