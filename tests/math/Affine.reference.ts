/** The quantizer as its formulas read, one value at a time: slow, obvious, and what `Affine.ts` is compared with. */
import type { Grid, Group } from "../../src/math/Affine.ts"

const f = Math.fround

/** Half to even, without the trick. */
export const roundHalfEven = (x: number): number => {
  const down = Math.floor(x)
  const rest = x - down
  if (rest !== 0.5) return rest < 0.5 ? down : down + 1
  return down % 2 === 0 ? down : down + 1
}

const clamp = (x: number, low: number, high: number): number => Math.min(Math.max(x, low), high)

export interface Reference {
  readonly scales: ReadonlyArray<number>
  /** As PyTorch has them: 0 for symmetric. */
  readonly zeros: ReadonlyArray<number>
  /** As PyTorch has them: signed for symmetric. */
  readonly codes: ReadonlyArray<number>
  readonly values: ReadonlyArray<number>
}

export const reference = (weights: ReadonlyArray<number>, cols: number, grid: Grid, group: Group): Reference => {
  const size = group === "tensor" ? weights.length : group === "channel" ? cols : group
  const [scales, zeros, codes, values] = [[], [], [], []] as [number[], number[], number[], number[]]
  for (let start = 0; start < weights.length; start += size) {
    const row = weights.slice(start, start + size).map(f)
    const levels = 2 ** grid.bits - 1
    const top = 2 ** (grid.bits - 1) - 1
    let low = Math.min(...row)
    let high = Math.max(...row)
    if (grid.range === "fixed") [low, high] = [Math.min(low, 0), Math.max(high, 0)]
    const absmax = Math.max(...row.map(Math.abs))
    const scale = grid.symmetric ? f(Math.max(absmax, f(1e-5)) / top) : f(Math.max(f(high - low), f(1e-5)) / levels)
    const zero = grid.symmetric ? 0 : clamp(-roundHalfEven(f(low / scale)), 0, levels)
    scales.push(scale)
    zeros.push(zero + 0)
    for (const x of row) {
      const q = grid.symmetric
        ? clamp(roundHalfEven(f(x / scale)), -top - 1, top)
        : clamp(f(roundHalfEven(f(x / scale)) + zero), 0, levels)
      codes.push(q + 0)
      values.push(f(f(q - zero) * scale) + 0)
    }
  }
  return { scales, zeros, codes, values }
}
