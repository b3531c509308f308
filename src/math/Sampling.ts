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
  const weights = new Float64Array(logits.length)
  for (let i = 0; i < weights.length; i++) weights[i] = Math.exp((logits[i]! - logits[best]!) / temperature)
  if (topK > 0 || topP < 1) cut(weights, topK, topP)
  const target = random.uniform() * sum(weights, 0)
  let token = 0
  for (let reached = weights[0]!; reached <= target; reached += weights[token]!) token++
  return token
}

/** weights[from …], in order, so that adding them up again reaches the same sum. */
const sum = (weights: Float64Array, from: number): number => {
  let total = 0
  for (let i = from; i < weights.length; i++) total += weights[i]!
  return total
}

/** Set to 0 every weight that is not among the likeliest. Of equal weights at the edge, the first ones stay. */
const cut = (weights: Float64Array, topK: number, topP: number): void => {
  const ascending = weights.toSorted()
  const first = nucleus(ascending, topK > 0 ? Math.max(ascending.length - topK, 0) : 0, topP)
  const least = ascending[first]!
  let equals = ascending.lastIndexOf(least) - first + 1
  for (let i = 0; i < weights.length; i++) {
    if (weights[i]! > least) continue
    if (weights[i] === least && equals > 0) equals--
    else weights[i] = 0
  }
}

/** Where the largest of ascending[from …] begin that together reach the share `topP` of their sum; at least one. */
const nucleus = (ascending: Float64Array, from: number, topP: number): number => {
  if (topP >= 1) return from
  const enough = topP * sum(ascending, from)
  let at = ascending.length - 1
  for (let reached = ascending[at]!; reached < enough && at > from; reached += ascending[at]!) at--
  return at
}
