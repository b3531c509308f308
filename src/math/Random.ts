/**
 * A seeded source of random numbers: xoshiro128** (Blackman and Vigna, 2018), its state filled from a 64-bit seed by
 * SplitMix64. The same seed gives the same sequence everywhere.
 */
export interface Random {
  /** Uniform in [0, 2^32). */
  readonly uint32: () => number
  /** Uniform in [0, 1), a multiple of 2^-53. */
  readonly uniform: () => number
  /** Uniform integer in [0, bound), without modulo bias; `bound` is 1 to 2^32. */
  readonly below: (bound: number) => number
}

const MASK = 0xffff_ffff_ffff_ffffn

/** The first `count` outputs of SplitMix64. */
const splitMix64 = (seed: bigint, count: number): ReadonlyArray<bigint> => {
  let state = seed & MASK
  return Array.from({ length: count }, () => {
    state = (state + 0x9e37_79b9_7f4a_7c15n) & MASK
    let z = state
    z = ((z ^ (z >> 30n)) * 0xbf58_476d_1ce4_e5b9n) & MASK
    z = ((z ^ (z >> 27n)) * 0x94d0_49bb_1331_11ebn) & MASK
    return z ^ (z >> 31n)
  })
}

const rotateLeft = (x: number, by: number): number => (x << by) | (x >>> (32 - by))

/** A generator of its own; only the low 64 bits of `seed` count. */
export const make = (seed: bigint): Random => {
  const s = Uint32Array.from(splitMix64(seed, 2).flatMap((z) => [Number(z & 0xffff_ffffn), Number(z >> 32n)]))
  const uint32 = (): number => {
    const result = Math.imul(rotateLeft(Math.imul(s[1]!, 5), 7), 9) >>> 0
    const t = s[1]! << 9
    s[2]! ^= s[0]!
    s[3]! ^= s[1]!
    s[1]! ^= s[2]!
    s[0]! ^= s[3]!
    s[2]! ^= t
    s[3] = rotateLeft(s[3]!, 11)
    return result
  }
  const uniform = (): number => {
    const high = uint32() >>> 5
    return (high * 2 ** 26 + (uint32() >>> 6)) * 2 ** -53
  }
  const below = (bound: number): number => {
    if (!(Number.isInteger(bound) && bound >= 1 && bound <= 2 ** 32)) throw new RangeError(`no integers below ${bound}`)
    const fair = 2 ** 32 - (2 ** 32 % bound)
    for (;;) {
      const draw = uint32()
      if (draw < fair) return draw % bound
    }
  }
  return { uint32, uniform, below }
}
