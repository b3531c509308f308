/**
 * Token perplexity of a text: exp of the mean negative log-likelihood (natural logarithm) per token, over windows.
 *
 * A window is `window` tokens as the model sees them, the BOS token included. Windows advance by `stride` tokens of
 * text, at most by what a window holds, so `stride: window` means side by side. `scored` says which tokens of a window
 * count: `new` (each token of the text once, those that no earlier window held) or `second-half` (llama.cpp's way). A
 * last window that would be shorter is dropped (`tail: drop`, the custom of GPTQ and its successors) or kept.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Request } from "../compute/Scoring.ts"
import * as Scorer from "./Scorer.ts"
import * as Summary from "./Summary.ts"

const fields = {
  window: Schema.Int.check(Schema.isGreaterThan(1)),
  stride: Schema.Int.check(Schema.isGreaterThan(0)),
  bos: Schema.Boolean,
  scored: Schema.Literals(["new", "second-half"]).pipe(Schema.withDecodingDefaultKey(Effect.succeed("new" as const))),
  tail: Schema.Literals(["drop", "keep"]).pipe(Schema.withDecodingDefaultKey(Effect.succeed("drop" as const))),
}
type Windows = Schema.Struct<typeof fields>["Type"]

/** The requests of one text; `begin` are the tokens that each window begins with. */
export const windows = (text: Int32Array, task: Windows, begin: ReadonlyArray<number>): ReadonlyArray<Request> => {
  const lead = begin.length
  const held = task.window - lead
  const advance = Math.min(task.stride, held)
  const requests: Array<Request> = []
  let scored = 0
  for (let start = 0; start < text.length; start += advance) {
    const end = Math.min(start + held, text.length)
    if (end - start < held && task.tail === "drop") break
    const tokens = Int32Array.from([...begin, ...text.subarray(start, end)])
    const first = task.scored === "new" ? lead + Math.max(scored, start) - start : Math.floor(tokens.length / 2)
    // The very first token of a sequence has nothing before it to be predicted from.
    const from = Math.max(1, first)
    if (from < tokens.length) requests.push({ tokens, from })
    scored = end
    if (end === text.length) break
  }
  return requests
}

export default Scorer.make({
  description: "token perplexity of a text, over windows",
  fields,
  needs: ({ window }) => window,
  run: Effect.fnUntraced(function* (task, items, subject) {
    if (task.bos && subject.lead(true).length === 0) {
      return yield* Effect.fail(
        Scorer.unscorable("the task begins windows with BOS, but the model has no BOS token; set bos: false"),
      )
    }
    const texts = items.map(({ text }) => text).filter((text) => typeof text === "string")
    if (texts.length !== items.length) {
      return yield* Effect.fail(Scorer.unscorable("perplexity needs text: a .txt file, or rows with a field 'text'"))
    }
    const encoded = yield* subject.encode(texts, false)
    const begin = subject.lead(task.bos)
    const requests = encoded.flatMap((tokens) => windows(tokens, task, begin))
    if (requests.length === 0) {
      const longest = Math.max(0, ...encoded.map((tokens) => tokens.length))
      const reason = `no text fills one window: the longest has ${longest} tokens, a window holds ${task.window - begin.length}; use a smaller window, more text, or tail: keep`
      return yield* Effect.fail(Scorer.unscorable(reason))
    }
    const scores = yield* subject.score(requests)
    const counts = requests.map(({ from, tokens }) => tokens.length - from)
    const spans = Summary.spans(counts)
    const costs = Float64Array.from(scores.logprob, (logprob) => -logprob)
    const nll = Summary.overTokens("nll", costs, spans, { better: "lower", primary: false })
    const perplexity = Summary.exp(nll.value)
    return {
      metrics: [
        {
          ...nll,
          name: "perplexity",
          value: perplexity,
          ...(nll.stderr !== undefined && { stderr: Summary.finite(perplexity * nll.stderr) }),
          primary: true,
        },
        nll,
        ...Summary.divergence(scores, spans),
      ],
      records: spans.map((span, window) => ({
        window,
        tokens: counts[window],
        nll: Summary.sum(costs, span),
        ...(scores.reference && { kl: Summary.sum(scores.reference.kl, span) }),
      })),
    }
  }),
})
