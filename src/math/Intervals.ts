/** How sure a score is: standard errors, bootstrap and Wilson intervals, quantiles. */
import type { Random } from "./Random.ts"

export interface Interval {
  readonly low: number
  readonly high: number
}

const assertSome = (values: ArrayLike<number>): void => {
  if (values.length === 0) throw new RangeError("no values, hence no estimate")
}

export const mean = (values: ArrayLike<number>): number => {
  assertSome(values)
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]!
  return sum / values.length
}

/** Of the mean: sample standard deviation (n - 1) over sqrt(n). NaN for a single value, which says nothing of it. */
export const standardError = (values: ArrayLike<number>): number => {
  const center = mean(values)
  let squares = 0
  for (let i = 0; i < values.length; i++) squares += (values[i]! - center) ** 2
  const n = values.length
  return Math.sqrt(squares / (n - 1) / n)
}

/**
 * The value below which a share `q` of the data lies, interpolated between neighbours (type 7 of Hyndman and Fan 1996,
 * NumPy's default): `q` 0.5 is the median.
 */
export const quantile = (values: ArrayLike<number>, q: number): number => {
  assertSome(values)
  if (!(q >= 0 && q <= 1)) throw new RangeError(`quantile ${q} is not within 0 to 1`)
  return ofSorted(Float64Array.from(values).toSorted(), q)
}

const ofSorted = (sorted: Float64Array, q: number): number => {
  const at = (sorted.length - 1) * q
  const below = Math.floor(at)
  const low = sorted[below]!
  const high = sorted[Math.ceil(at)]!
  return low === high ? low : low + (high - low) * (at - below)
}

/**
 * Percentile bootstrap (Efron 1979) of the mean: `resamples` means of values drawn with replacement, and the central
 * `confidence` of them. For a paired comparison, give the differences of the pairs.
 */
export const bootstrap = (
  values: ArrayLike<number>,
  resamples: number,
  confidence: number,
  random: Random,
): Interval => {
  assertSome(values)
  const data = Float64Array.from(values)
  const means = new Float64Array(resamples)
  for (let r = 0; r < resamples; r++) {
    let sum = 0
    for (let i = 0; i < data.length; i++) sum += data[random.below(data.length)]!
    means[r] = sum / data.length
  }
  means.sort()
  const tail = (1 - confidence) / 2
  return { low: ofSorted(means, tail), high: ofSorted(means, 1 - tail) }
}

/**
 * Score interval of a proportion (Wilson 1927) for `successes` of `trials`; `z` is the normal quantile, 1.96 for 95 %.
 * Unlike p +- z * se it stays within [0, 1] and does not vanish at 0 and 1.
 */
export const wilson = (successes: number, trials: number, z: number): Interval => {
  if (!(trials > 0 && successes >= 0 && successes <= trials))
    throw new RangeError(`${successes} of ${trials} is no proportion`)
  const p = successes / trials
  const z2 = z * z
  const center = p + z2 / (2 * trials)
  const spread = z * Math.sqrt((p * (1 - p)) / trials + z2 / (4 * trials * trials))
  const scale = 1 + z2 / trials
  return { low: Math.max((center - spread) / scale, 0), high: Math.min((center + spread) / scale, 1) }
}
