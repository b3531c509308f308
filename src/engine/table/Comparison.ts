/**
 * What a measured value is worth beside its baseline: the difference, what share of the baseline is kept, and whether
 * the difference could be noise.
 */
export interface Measured {
  readonly value: number
  readonly stderr?: number | undefined
  /** 95 % interval, [low, high]; stands in for the standard error where that is absent. */
  readonly interval?: readonly [number, number] | undefined
  readonly better: "lower" | "higher" | "neither"
  /** What guessing scores; 0 where not said. */
  readonly chance?: number | undefined
}
export interface Comparison {
  readonly baseline: number
  /** value - baseline, in the metric's own unit. */
  readonly delta: number
  /**
   * Share of the baseline that is kept: 1 is all of it. For higher-is-better metrics, counted above chance:
   * (value - chance) / (baseline - chance), so guessing keeps 0. For lower-is-better ones, baseline / value.
   * Absent where the ratio says nothing: no better side, a baseline no better than chance, a value or baseline of 0.
   */
  readonly retention?: number
  /**
   * Is the difference more than noise, at two standard errors (95 %)? Item by item where both were measured on the same
   * items: what a setting does to all of them alike is seen however much they differ. Absent where nothing is known.
   */
  readonly significant?: boolean
}
/** A value of each item on either side, in the same order. */
export interface Pairs {
  readonly own: ArrayLike<number>
  readonly baseline: ArrayLike<number>
}

/** Two standard errors: about 95 % of a normal distribution. */
const sigmas = 2
const standardError = ({ interval, stderr }: Measured) =>
  stderr ?? (interval === undefined ? undefined : (interval[1] - interval[0]) / (2 * 1.96))

const retentionOf = (measured: Measured, baseline: Measured): number | undefined => {
  if (measured.better === "neither") return undefined
  if (measured.better === "lower")
    return baseline.value > 0 && measured.value > 0 ? baseline.value / measured.value : undefined
  const above = baseline.value - (measured.chance ?? 0)
  // A baseline within its own noise of guessing has nothing to lose: the ratio would be noise over noise.
  return above > sigmas * (standardError(baseline) ?? 0) ? (measured.value - (measured.chance ?? 0)) / above : undefined
}

/** Of fewer items nothing can be said. */
const FEWEST = 3

/**
 * Right and wrong: the exact test of the answers that changed (McNemar 1947), which a fair coin would have split as
 * unevenly in at most 4.6 % of cases. Other numbers: the mean difference in standard errors, by Student's t, whose
 * quantile is expanded in 1 / degrees of freedom (Cornish & Fisher 1938).
 */
const differ = ({ baseline, own }: Pairs): boolean => {
  const differences = Array.from(own, (value, i) => value - baseline[i]!)
  const n = differences.length
  if (n < FEWEST) return false
  if (differences.every((d) => d === 0 || d === 1 || d === -1)) {
    const [gained, lost] = [1, -1].map((sign) => differences.filter((d) => d === sign).length) as [number, number]
    return 2 * atMost(Math.min(gained, lost), gained + lost) < 0.0455
  }
  const mean = differences.reduce((sum, d) => sum + d, 0) / n
  const squares = differences.reduce((sum, d) => sum + (d - mean) ** 2, 0)
  const [z, df] = [sigmas, n - 1]
  const t = z + (z ** 3 + z) / (4 * df) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * df ** 2)
  return Math.abs(mean) > t * Math.sqrt(squares / (n - 1) / n)
}

/** The chance of at most `k` heads in `n` throws of a fair coin. */
const atMost = (k: number, n: number): number => {
  let logOdds = -n * Math.LN2
  let chance = 0
  for (let heads = 0; heads <= k; heads++) {
    chance += Math.exp(logOdds)
    logOdds += Math.log(n - heads) - Math.log(heads + 1)
  }
  return chance
}

/** Compares a value with its baseline, both of the same metric. */
export const compare = (measured: Measured, baseline: Measured, pairs?: Pairs): Comparison => {
  const delta = measured.value - baseline.value
  const retention = retentionOf(measured, baseline)
  const errors = [standardError(measured), standardError(baseline)] as const
  return {
    baseline: baseline.value,
    delta,
    ...(retention === undefined ? {} : { retention }),
    ...(pairs !== undefined
      ? { significant: differ(pairs) }
      : errors[0] === undefined || errors[1] === undefined
        ? {}
        : { significant: Math.abs(delta) > sigmas * Math.hypot(errors[0], errors[1]) }),
  }
}
