/** Choices from a seed, for mutations. */
import * as Random from "../../src/math/Random.ts"

export interface Chance {
  /** A whole number from 0 to n - 1. */
  readonly below: (n: number) => number
  readonly pick: <A>(of: ReadonlyArray<A>) => A
  /** True once in so many times. */
  readonly oneIn: (n: number) => boolean
}

export const make = (seed: number): Chance => {
  const { below } = Random.make(BigInt(seed))
  return {
    below,
    pick: (of) => of[below(of.length)]!,
    oneIn: (n) => below(n) === 0,
  }
}
