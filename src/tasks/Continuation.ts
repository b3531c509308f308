/**
 * Prompts and their continuations as token requests. A continuation's tokens are what encoding prompt and continuation
 * together adds to the prompt's own tokens, as in lm-evaluation-harness (`_encode_pair`): tokenizers that put a mark
 * before the first word would otherwise see a first word twice.
 */
import * as Effect from "effect/Effect"
import type { Request } from "../compute/Scoring.ts"
import { type Prompts, type Subject, type Unscorable, unscorable } from "./Scorer.ts"

export interface Pair {
  /** The item it belongs to, for messages. */
  readonly item: number
  /** As the model is given it. */
  readonly prompt: string
  readonly continuation: string
}

/** One request per pair, begun as the model's sequences are, or as its chat template begins them. */
export const requests = <E, R>(
  pairs: ReadonlyArray<Pair>,
  { bos, rendered }: Prompts,
  subject: Subject<E, R>,
): Effect.Effect<ReadonlyArray<Request>, E | Unscorable, R> =>
  Effect.gen(function* () {
    const space = pairs.map(({ prompt }) => prompt.length - prompt.trimEnd().length)
    const prompts = pairs.map(({ prompt }, i) => prompt.slice(0, prompt.length - space[i]!))
    const heads = yield* subject.encode(prompts, rendered)
    const texts = pairs.map(({ continuation, prompt }) => prompt + continuation)
    const wholes = yield* subject.encode(texts, rendered)
    const lead = rendered ? [] : subject.lead(bos)
    return yield* Effect.forEach(pairs, ({ continuation, item }, i) => {
      const head = Int32Array.from([...lead, ...heads[i]!])
      const tokens = Int32Array.from([...lead, ...wholes[i]!])
      return tokens.length > head.length && head.length > 0
        ? Effect.succeed({ tokens, from: head.length, item })
        : Effect.fail(
            unscorable(`item ${item}: ${JSON.stringify(continuation)} after the prompt adds no token to score`),
          )
    })
  })
