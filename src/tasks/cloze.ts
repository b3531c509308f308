/**
 * Is the target what the model would say? `acc`: every token of the target is the most likely one (LAMBADA's measure);
 * `target_perplexity`: exp of the mean negative log-likelihood per target, as in lm-evaluation-harness.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Prompt from "./Prompt.ts"
import * as Continuation from "./Continuation.ts"
import * as Scorer from "./Scorer.ts"
import * as Summary from "./Summary.ts"
import * as Template from "./Template.ts"

export default Scorer.make({
  description: "greedy match and log-probability of a target after a prompt",
  fields: { prompt: Schema.String, target: Schema.String, ...Prompt.fields },
  needs: () => 0,
  run: Effect.fnUntraced(function* (task, items, subject) {
    const begun = Prompt.begin(task.chat)
    const own = yield* Effect.forEach(items, (item, i) =>
      Effect.map(Template.fill(task.prompt, item, i), (prompt) => Prompt.ask(begun, prompt)),
    )
    const prompts = yield* Prompt.prompts(task, { own, reference: undefined }, subject)
    const pairs = yield* Effect.forEach(items, (item, i) =>
      Effect.map(Template.fill(task.target, item, i), (target) => ({
        item: i,
        prompt: prompts.own[i]!,
        continuation: Prompt.continuation(prompts, target),
      })),
    )
    const groups = yield* Effect.forEach(items, (item, i) => Template.group(task.group, item, i))
    const requests = yield* Continuation.requests(pairs, prompts, subject)
    const scores = yield* subject.score(requests)
    const spans = Summary.spans(requests.map(({ from, tokens }) => tokens.length - from))
    const match = (greedy: Int32Array, i: number) => {
      const [first, last] = spans[i]!
      return (
        requests[i]!.tokens.subarray(requests[i]!.from).every((token, t) => greedy[first + t] === token) && last > first
      )
    }
    const right = items.map((_, i) => match(scores.greedy, i))
    const { reference } = scores
    const was = reference && items.map((_, i) => match(reference.greedy, i))
    const logprobs = spans.map((span) => Summary.sum(scores.logprob, span))
    const chance = task.chance === undefined ? {} : { chance: task.chance }
    const nll = Summary.average(
      "",
      logprobs.map((value) => -value),
      { better: "lower", primary: false },
    )
    const perplexity = Summary.exp(nll.value)
    return {
      metrics: [
        ...Summary.grouped("acc", right.map(Number), groups, { better: "higher", primary: true, ...chance }),
        {
          ...nll,
          name: "target_perplexity",
          value: perplexity,
          ...(nll.stderr !== undefined && { stderr: Summary.finite(nll.stderr * perplexity) }),
        },
        ...Summary.flips(right, was),
        ...Summary.divergence(scores, spans),
      ],
      records: items.map((_, item) => ({
        item,
        ...(groups[item] !== undefined && { group: groups[item] }),
        prompt: prompts.own[item],
        target: pairs[item]!.continuation,
        right: right[item],
        logprob: logprobs[item],
        ...(reference && {
          referenceRight: was![item],
          referenceLogprob: Summary.sum(reference.logprob, spans[item]!),
        }),
      })),
    }
  }),
})
