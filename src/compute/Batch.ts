/** Which sequences go through the model together. */

/** Sequences that go through the model together. `items` are their indices in the caller's list. */
export interface Batch {
  readonly items: ReadonlyArray<number>
  readonly lengths: ReadonlyArray<number>
  /** Tokens of the longest: shorter ones are padded to it. */
  readonly width: number
}

/**
 * Group sequences of similar length, longest first, so that a batch holds at most `tokens` with its padding (one
 * sequence may be longer). Sequences for which `alone` gives different keys never share a batch.
 */
export const batches = (
  lengths: ReadonlyArray<number>,
  tokens: number,
  alone: (length: number) => number,
): ReadonlyArray<Batch> => {
  const order = lengths.map((_, i) => i).toSorted((a, b) => lengths[b]! - lengths[a]! || a - b)
  const groups: Array<Array<number>> = []
  for (const item of order) {
    const group = groups.at(-1)
    const width = group && lengths[group[0]!]!
    if (
      group !== undefined &&
      width !== undefined &&
      (group.length + 1) * width <= tokens &&
      alone(width) === alone(lengths[item]!)
    ) {
      group.push(item)
    } else groups.push([item])
  }
  return groups.map((items) => batch(items, lengths))
}

/**
 * Products of a single row take another path through ONNX Runtime, with other rounding; from two rows on each row's
 * result is the same whatever their number. So nothing is ever computed as a single row.
 */
export const FEWEST_ROWS = 2

export const batch = (items: ReadonlyArray<number>, lengths: ReadonlyArray<number>): Batch => ({
  items,
  lengths: items.map((i) => lengths[i]!),
  width: Math.max(FEWEST_ROWS, ...items.map((i) => lengths[i]!)),
})
