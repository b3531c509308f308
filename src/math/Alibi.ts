/**
 * Attention with linear biases (Press et al. 2022): a key adds slope * position to its score. It differs from the paper's
 * slope * distance by the same amount for all keys of a query, which softmax does not see.
 */

/**
 * The slope of each head: powers of 2^(-8/n) for n heads, n a power of two; for other numbers those of the next smaller
 * power of two, then every other one of the next larger.
 */
export const slopes = (heads: number): Float32Array => {
  const whole = 2 ** Math.floor(Math.log2(heads))
  const powers = (count: number, step: number, base: number) =>
    Array.from({ length: count }, (_, i) => Math.fround(base) ** (1 + i * step))
  const base = (n: number) => 2 ** -(2 ** -(Math.log2(n) - 3))
  return Float32Array.from([...powers(whole, 1, base(whole)), ...powers(heads - whole, 2, base(2 * whole))])
}

/** What a key at each position adds for each head, [length, heads]; `round` is the arithmetic's, of every number. */
export const table = (heads: number, length: number, round: (x: number) => number = Math.fround) => {
  const own = slopes(heads).map(round)
  const values = new Float32Array(length * heads)
  for (let position = 0, o = 0; position < length; position++) {
    for (const slope of own) values[o++] = round(slope * round(position))
  }
  return { columns: heads, values }
}
