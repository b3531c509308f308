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
  /** Is |delta| above two combined standard errors? Absent where an error is unknown. Pairing is not used. */
  readonly significant?: boolean
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

/** Compares a value with its baseline, both of the same metric. */
export const compare = (measured: Measured, baseline: Measured): Comparison => {
  const delta = measured.value - baseline.value
  const retention = retentionOf(measured, baseline)
  const errors = [standardError(measured), standardError(baseline)] as const
  return {
    baseline: baseline.value,
    delta,
    ...(retention === undefined ? {} : { retention }),
    ...(errors[0] === undefined || errors[1] === undefined
      ? {}
      : { significant: Math.abs(delta) > sigmas * Math.hypot(errors[0], errors[1]) }),
  }
}
