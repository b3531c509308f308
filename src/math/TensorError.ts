/**
 * How far a reconstruction is from its original. Sums are double and run in element order, so they do not depend on
 * how a tensor is cut into pieces.
 */
export interface Sums {
  readonly noise: number
  readonly signal: number
  readonly max: number
}

export interface TensorError {
  /** Sum of (x - x')^2 over sum of x^2. */
  readonly relativeMse: number
  /** Signal-to-quantization-noise ratio, 10 log10(sum of x^2 / sum of (x - x')^2), in dB; infinite without noise. */
  readonly sqnr: number
  /** Largest |x - x'|. */
  readonly max: number
}

export const NOTHING: Sums = { noise: 0, signal: 0, max: 0 }

/** Continue `sums` with the next piece of a tensor; both arrays have the same length. */
export const add = (sums: Sums, original: Float32Array, reconstruction: Float32Array): Sums => {
  if (original.length !== reconstruction.length)
    throw new RangeError(`${original.length} values cannot be compared with ${reconstruction.length}`)
  let { noise, signal, max } = sums
  for (let i = 0; i < original.length; i++) {
    const x = original[i]!
    const difference = x - reconstruction[i]!
    noise += difference * difference
    signal += x * x
    max = Math.max(max, Math.abs(difference))
  }
  return { noise, signal, max }
}

/** A tensor of zeros that stayed zeros has no error. */
export const summarize = ({ noise, signal, max }: Sums): TensorError => ({
  relativeMse: noise === 0 ? 0 : noise / signal,
  sqnr: noise === 0 ? Infinity : 10 * Math.log10(signal / noise),
  max,
})
