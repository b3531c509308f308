/** What a benchmark measures: figures beside their bars, and beside what the machine itself allows. */

/**
 * One measured figure. `bar` is what it must reach, if anything; `limit` is what bounds it, measured in the same run;
 * `note` says where the difference goes.
 */
export interface Row {
  readonly what: string
  readonly value: number
  readonly unit: string
  readonly bar: number | undefined
  readonly limit: number
  /** Of time and memory less is better: then `bar` is what the figure must not exceed. */
  readonly better?: "lower"
  readonly note?: string
}

export const reached = ({ bar, better, value }: Row): boolean =>
  bar === undefined || (better === "lower" ? value <= bar : value >= bar)

/** How far the figure is from what bounds it; 1 is as good as it can be. */
export const ratio = ({ better, limit, value }: Row): number => (better === "lower" ? limit / value : value / limit)

/** Milliseconds of the fastest of `repeats` passes: the one least disturbed by the rest of the machine. */
export const fastest = (repeats: number, pass: () => void): number => {
  let best = Infinity
  for (let i = 0; i < repeats; i++) {
    const start = performance.now()
    pass()
    best = Math.min(best, performance.now() - start)
  }
  return best
}
