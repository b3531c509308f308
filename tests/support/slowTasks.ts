/** What the tasks measure, straight from their definitions, with a slow model: texts in, numbers out. */
import * as Slow from "./SlowLlama.ts"
import { BOS, decode, encode } from "./tokenizer.ts"

export interface Model {
  readonly config: Slow.Config
  readonly weights: Slow.Weights
}
const EOS = 2
const logits = ({ config, weights }: Model, tokens: ReadonlyArray<number>) =>
  Slow.logits(config, weights, tokens, (_, rows) => rows)

/** What both models think of the tokens from `first` on. */
const judged = (own: Model, other: Model, tokens: ReadonlyArray<number>, first: number) => {
  const [mine, theirs] = [logits(own, tokens), logits(other, tokens)]
  return tokens.slice(first).map((target, i) => {
    const at = first + i - 1
    return {
      target,
      logprob: Slow.logprob(mine[at]!, target),
      greedy: Slow.greedy(mine[at]!),
      referenceLogprob: Slow.logprob(theirs[at]!, target),
      referenceGreedy: Slow.greedy(theirs[at]!),
      kl: Slow.divergence(theirs[at]!, mine[at]!),
    }
  })
}
/** Of tokens after BOS. */
export const tokens = (own: Model, other: Model, ids: ReadonlyArray<number>) => judged(own, other, [BOS, ...ids], 1)
/** Of the text that stands after BOS and the prompt. */
export const continuation = (own: Model, other: Model, prompt: string, text: string) =>
  judged(own, other, [BOS, ...encode(prompt + text)], 1 + encode(prompt.trimEnd()).length)
export type Token = ReturnType<typeof continuation>[number]

export const mean = (values: ReadonlyArray<number>): number => values.reduce((a, b) => a + b, 0) / values.length
const sorted = (values: ReadonlyArray<number>) => values.toSorted((a, b) => a - b)
/** Linear between neighbours, as NumPy's default. */
const quantile = (values: ReadonlyArray<number>, q: number) => {
  const at = (values.length - 1) * q
  const [low, high] = [sorted(values)[Math.floor(at)]!, sorted(values)[Math.ceil(at)]!]
  return low + (high - low) * (at - Math.floor(at))
}

export const divergence = (tokens: ReadonlyArray<Token>) => {
  const kl = tokens.map((token) => token.kl)
  return {
    kl_mean: mean(kl),
    kl_median: quantile(kl, 0.5),
    kl_p99: quantile(kl, 0.99),
    kl_max: Math.max(...kl),
    top1_agreement: mean(tokens.map(({ greedy, referenceGreedy }) => (greedy === referenceGreedy ? 1 : 0))),
    delta_logprob: mean(tokens.map(({ logprob, referenceLogprob }) => logprob - referenceLogprob)),
  }
}

/** The share of answers that turned from right to wrong, and from wrong to right. */
export const flips = (now: ReadonlyArray<boolean>, was: ReadonlyArray<boolean>) => ({
  flips_to_wrong: mean(now.map((right, i) => (was[i] && !right ? 1 : 0))),
  flips_to_right: mean(now.map((right, i) => (!was[i] && right ? 1 : 0))),
})

/** Greedy text after the prompt, up to a stop, the end of the text, or so many tokens. */
export const generate = (
  model: Model,
  prompt: string,
  stop: ReadonlyArray<string>,
  most: number,
  begin: ReadonlyArray<number> = [BOS],
): string => {
  const tokens = [...begin, ...encode(prompt)]
  let said = ""
  for (let n = 0; n < most; n++) {
    const next = Slow.greedy(logits(model, tokens).at(-1)!)
    if (next === EOS) break
    tokens.push(next)
    said += decode([next])
    const ends = stop.map((end) => said.indexOf(end)).filter((at) => at >= 0)
    if (ends.length > 0) return said.slice(0, Math.min(...ends))
  }
  return said
}
