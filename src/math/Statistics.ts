/**
 * Moments of a site's values, per channel and over all of them, from sums taken while data went by. Sums are added
 * in the order given, in double.
 */

/** Sums per channel: each array has one entry per channel; `count` values went into every one. */
export interface Sums {
  readonly count: number
  readonly sum: Float64Array
  readonly sum2: Float64Array
  readonly sum3: Float64Array
  readonly sum4: Float64Array
  readonly min: Float64Array
  readonly max: Float64Array
  readonly absmax: Float64Array
}

/** One batch's sums, as a graph returns them. */
export type Batch = { readonly [K in keyof Sums]: K extends "count" ? number : Float32Array | Float64Array }

export interface Moments {
  readonly min: number
  readonly max: number
  readonly absmax: number
  readonly mean: number
  /** Mean of x^2. */
  readonly meanSquare: number
  /** Population standard deviation. */
  readonly std: number
  /** E[((x - mean) / std)^4]: 3 for a normal distribution. 0 where nothing varies. */
  readonly kurtosis: number
}

/** No data yet. */
export const empty = (channels: number): Sums => ({
  count: 0,
  sum: new Float64Array(channels),
  sum2: new Float64Array(channels),
  sum3: new Float64Array(channels),
  sum4: new Float64Array(channels),
  min: new Float64Array(channels).fill(Infinity),
  max: new Float64Array(channels).fill(-Infinity),
  absmax: new Float64Array(channels),
})

/** The sums of what went into `sums` and then into `batch`. */
export const add = (sums: Sums, batch: Batch): Sums => {
  const channels = sums.sum.length
  if (batch.sum.length !== channels) throw new RangeError(`${batch.sum.length} channels do not add to ${channels}`)
  return {
    count: sums.count + batch.count,
    sum: sums.sum.map((x, c) => x + batch.sum[c]!),
    sum2: sums.sum2.map((x, c) => x + batch.sum2[c]!),
    sum3: sums.sum3.map((x, c) => x + batch.sum3[c]!),
    sum4: sums.sum4.map((x, c) => x + batch.sum4[c]!),
    min: sums.min.map((x, c) => Math.min(x, batch.min[c]!)),
    max: sums.max.map((x, c) => Math.max(x, batch.max[c]!)),
    absmax: sums.absmax.map((x, c) => Math.max(x, batch.absmax[c]!)),
  }
}

/** Moments from raw sums of x, x^2, x^3, x^4 over `count` values. */
const central = (count: number, s1: number, s2: number, s3: number, s4: number) => {
  const mean = s1 / count
  const [m2, m3, m4] = [s2 / count, s3 / count, s4 / count]
  const variance = Math.max(m2 - mean * mean, 0)
  const fourth = m4 - 4 * mean * m3 + 6 * mean * mean * m2 - 3 * mean ** 4
  // Below this share of the mean square, the variance is what subtraction left of two equal numbers.
  const varies = variance > m2 * 1e-14
  return {
    mean,
    meanSquare: m2,
    std: varies ? Math.sqrt(variance) : 0,
    kurtosis: varies ? fourth / (variance * variance) : 0,
  }
}

/** Each channel on its own. */
export const perChannel = ({ count, sum, sum2, sum3, sum4, min, max, absmax }: Sums): ReadonlyArray<Moments> =>
  Array.from(sum, (s1, c) => ({
    min: min[c]!,
    max: max[c]!,
    absmax: absmax[c]!,
    ...central(count, s1, sum2[c]!, sum3[c]!, sum4[c]!),
  }))

const total = (values: Float64Array): number => values.reduce((a, b) => a + b, 0)

/** All channels as one distribution. */
export const overall = ({ count, sum, sum2, sum3, sum4, min, max, absmax }: Sums): Moments => ({
  min: min.reduce((a, b) => Math.min(a, b), Infinity),
  max: max.reduce((a, b) => Math.max(a, b), -Infinity),
  absmax: absmax.reduce((a, b) => Math.max(a, b), 0),
  ...central(count * sum.length, total(sum), total(sum2), total(sum3), total(sum4)),
})
