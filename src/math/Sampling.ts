/** The next token from logits: greedily, or by temperature, top-k and top-p. Ties go to the lower token id. */
import type { Random } from "./Random.ts"

export interface Settings {
  /** Divides the logits. 0 is greedy. */
  readonly temperature: number
  /** Only the k likeliest tokens; 0 for all. */
  readonly topK: number
  /** Only the likeliest tokens that together reach this probability (Holtzman et al. 2020); 1 for all. */
  readonly topP: number
}

/** Index of the largest logit, the lowest of equals. Throws where a logit is NaN or the largest is infinite. */
export const greedy = (logits: Float32Array): number => {
  let best = 0
  for (let i = 0; i < logits.length; i++) {
    if (Number.isNaN(logits[i]!)) throw new RangeError(`logit ${i} is NaN`)
    if (logits[i]! > logits[best]!) best = i
  }
  if (!Number.isFinite(logits[best])) throw new RangeError(`the largest logit is ${logits[best]}`)
  return best
}

/**
 * One token drawn from softmax(logits / temperature), cut to top-k and then to top-p, as transformers orders them.
 * Takes one uniform draw, none when greedy.
 */
export const sample = (logits: Float32Array, settings: Settings, random: Random): number => {
  const { temperature, topK, topP } = settings
  const best = greedy(logits)
  if (temperature === 0) return best
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - logits[best]!) / temperature))
  if (topK > 0 || topP < 1) cut(weights, topK, topP)
  const target = random.uniform() * sum(weights)
  let reached = 0
  return weights.findIndex((weight) => target < (reached += weight))
}

const sum = (weights: Float64Array): number => weights.reduce((a, b) => a + b, 0)

/** Set to 0 every weight that is not among the likeliest. Of equal weights at the edge, the first ones stay. */
const cut = (weights: Float64Array, topK: number, topP: number): void => {
  const sorted = weights.toSorted().toReversed()
  const kept = nucleus(topK > 0 ? sorted.subarray(0, topK) : sorted, topP)
  const least = sorted[kept - 1]!
  let equals = kept - sorted.indexOf(least)
  weights.forEach((weight, token) => {
    if (weight > least) return
    if (weight === least && equals > 0) equals--
    else weights[token] = 0
  })
}

/** How many weights, largest first, it takes to reach the share `topP` of their sum; at least one. */
const nucleus = (sorted: Float64Array, topP: number): number => {
  if (topP >= 1) return sorted.length
  const enough = topP * sum(sorted)
  let reached = 0
  return sorted.findIndex((weight) => (reached += weight) >= enough) + 1
}
