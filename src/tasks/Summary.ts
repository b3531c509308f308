/** From per-item and per-token numbers to metrics, each with its n and its uncertainty. */
import { mean, quantile, standardError } from "../math/Intervals.ts"
import type { TokenScores } from "../compute/Scoring.ts"
import type { Metric } from "./Scorer.ts"

type Kind = Pick<Metric, "better" | "primary"> & { readonly chance?: number; readonly group?: string }

/** The largest number there is stands for everything beyond it: scores are finite. */
export const finite = (value: number): number => Math.min(value, Number.MAX_VALUE)
export const exp = (value: number): number => finite(Math.exp(value))

/** The mean of one number per item, with its standard error. */
export const average = (name: string, values: ReadonlyArray<number>, kind: Kind): Metric => {
  const stderr = standardError(values)
  return {
    name,
    value: mean(values),
    n: values.length,
    ...(Number.isFinite(stderr) && { stderr }),
    ...kind,
    samples: values,
  }
}

/**
 * The mean of one number per token. Tokens of one sequence are not independent: each of `spans` counts as one sample, its
 * share of the mean.
 */
export const overTokens = (name: string, values: ArrayLike<number>, spans: Spans, kind: Kind): Metric => {
  const n = values.length
  const sums = spans.map((span) => sum(values, span))
  const samples = sums.map((total) => (total * spans.length) / n)
  const center = mean(samples)
  const stderr = standardError(
    spans.map(([first, last], i) => samples[i]! - (center * (last - first) * spans.length) / n),
  )
  return { name, value: center, n, ...(Number.isFinite(stderr) && { stderr }), ...kind, samples }
}

/** `average` over all items and, where items have a group, over each group in order of first appearance. */
export const grouped = (
  name: string,
  values: ReadonlyArray<number>,
  groups: ReadonlyArray<string | undefined>,
  kind: Kind,
): ReadonlyArray<Metric> => {
  const byGroup = new Map<string, Array<number>>()
  groups.forEach((group, i) => {
    if (group === undefined) return
    const list = byGroup.get(group)
    if (list) list.push(values[i]!)
    else byGroup.set(group, [values[i]!])
  })
  return [average(name, values, kind), ...[...byGroup].map(([group, list]) => average(name, list, { ...kind, group }))]
}

/**
 * A quantile with its distribution-free 95 % interval: the order statistics at n q ± 1.96 sqrt(n q (1 - q)) (Conover
 * 1999, section 3.2). `q` = 1 is the maximum, with the interval of 1 - 1/n.
 */
const ranked = (name: string, values: ArrayLike<number>, q: number): Metric => {
  const n = values.length
  const sorted = Float64Array.from(values).toSorted()
  const inner = Math.min(q, 1 - 1 / n)
  const spread = 1.96 * Math.sqrt(n * inner * (1 - inner))
  const at = (rank: number) => sorted[Math.max(0, Math.min(n - 1, Math.round(rank)))]!
  const interval = [at(n * inner - spread - 1), at(n * inner + spread)] as const
  return { name, value: quantile(sorted, q), n, interval, better: "lower", primary: false }
}

/**
 * How far the model's predictions are from the reference's, over all scored tokens: KL(reference ‖ model) in nats (mean,
 * median, 99th percentile, maximum), how often both find the same token most likely, and the mean change of the
 * targets' log-probability.
 */
export const divergence = ({ greedy, logprob, reference }: TokenScores, spans: Spans): ReadonlyArray<Metric> => {
  if (reference === undefined || logprob.length === 0) return []
  const agree = Array.from(greedy, (token, i) => (token === reference.greedy[i] ? 1 : 0))
  const change = Float64Array.from(logprob, (value, i) => value - reference.logprob[i]!)
  return [
    overTokens("kl_mean", reference.kl, spans, { better: "lower", primary: false }),
    ranked("kl_median", reference.kl, 0.5),
    ranked("kl_p99", reference.kl, 0.99),
    ranked("kl_max", reference.kl, 1),
    overTokens("top1_agreement", agree, spans, { better: "higher", primary: false }),
    overTokens("delta_logprob", change, spans, { better: "higher", primary: false }),
  ]
}

/**
 * Answers that changed against the reference: right to wrong, and wrong to right, as fractions of all items. Accuracy
 * alone hides them where they cancel (Dutta et al. 2024, "Accuracy is not all you need").
 */
export const flips = (
  right: ReadonlyArray<boolean>,
  reference: ReadonlyArray<boolean> | undefined,
): ReadonlyArray<Metric> => {
  if (reference === undefined) return []
  const share = (name: string, was: boolean) =>
    average(
      name,
      right.map((now, i) => (reference[i] === was && now !== was ? 1 : 0)),
      { better: "lower", primary: false },
    )
  return [share("flips_to_wrong", true), { ...share("flips_to_right", false), better: "neither" }]
}

/** Per request, the rows of its tokens in the scores: [first, last). */
export type Spans = ReadonlyArray<readonly [first: number, last: number]>
export const spans = (counts: ReadonlyArray<number>): Spans => {
  let at = 0
  return counts.map((count) => [at, (at += count)] as const)
}

export const sum = (values: ArrayLike<number>, [first, last]: readonly [number, number]): number => {
  let total = 0
  for (let i = first; i < last; i++) total += values[i]!
  return total
}
