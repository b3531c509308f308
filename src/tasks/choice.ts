/**
 * Multiple choice by log-likelihood. Every choice is scored as a continuation of the prompt; `acc` takes the largest
 * sum of log-probabilities, `acc_norm` the largest sum per character of the choice (without its leading space), as in
 * lm-evaluation-harness. `margin` is the right choice's sum less the best other one's, in nats: small margins flip first.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Prompt from "./Prompt.ts"
import * as Continuation from "./Continuation.ts"
import * as Scorer from "./Scorer.ts"
import * as Summary from "./Summary.ts"
import * as Template from "./Template.ts"

/** Index of the largest, the first of equals. */
const largest = (values: ReadonlyArray<number>) => values.indexOf(Math.max(...values))

export default Scorer.make({
  description: "log-likelihood multiple choice",
  fields: {
    prompt: Schema.String,
    /** Templates, or the one field that holds the texts. */
    choices: Schema.Union([Schema.NonEmptyString, Schema.Array(Schema.String)]),
    /** Index of the right choice, from 0. */
    answer: Schema.String,
    ...Prompt.fields,
  },
  needs: () => 0,
  run: Effect.fnUntraced(function* (task, items, subject) {
    const groups = yield* Effect.forEach(items, (item, i) => Template.group(task.group, item, i))
    const questions = yield* Effect.forEach(items, (item, i) => question(task, item, i))
    const begun = Prompt.begin(task.chat)
    const own = questions.map(({ prompt }) => Prompt.ask(begun, prompt))
    const prompts = yield* Prompt.prompts(task, { own, reference: undefined }, subject)
    const pairs = questions.flatMap(({ choices }, item) =>
      choices.map((text) => ({ item, prompt: prompts.own[item]!, continuation: Prompt.continuation(prompts, text) })),
    )
    const requests = yield* Continuation.requests(pairs, prompts, subject)
    const scores = yield* subject.score(requests)
    const spans = Summary.spans(requests.map(({ from, tokens }) => tokens.length - from))
    const byQuestion = Summary.spans(questions.map(({ choices }) => choices.length))
    const read = (logprob: Float32Array) =>
      questions.map(({ answer, choices }, q) => {
        const [first, last] = byQuestion[q]!
        const sums = spans.slice(first, last).map((span) => Summary.sum(logprob, span))
        const perCharacter = sums.map((sum, c) => sum / Math.max(1, choices[c]!.replace(/^ /, "").length))
        const others = sums.filter((_, c) => c !== answer)
        return {
          sums,
          pick: largest(sums),
          right: largest(sums) === answer,
          rightNorm: largest(perCharacter) === answer,
          margin: sums[answer]! - Math.max(...others),
        }
      })
    const said = read(scores.logprob)
    const was = scores.reference && read(scores.reference.logprob)
    const chance = task.chance === undefined ? {} : { chance: task.chance }
    return {
      metrics: [
        ...Summary.grouped(
          "acc",
          said.map(({ right }) => Number(right)),
          groups,
          { better: "higher", primary: true, ...chance },
        ),
        ...Summary.grouped(
          "acc_norm",
          said.map(({ rightNorm }) => Number(rightNorm)),
          groups,
          { better: "higher", primary: false, ...chance },
        ),
        Summary.average(
          "margin",
          said.map(({ margin }) => margin),
          { better: "higher", primary: false },
        ),
        ...Summary.flips(
          said.map(({ right }) => right),
          was?.map(({ right }) => right),
        ),
        ...Summary.divergence(scores, spans),
      ],
      records: said.map(({ margin, pick, right, sums }, item) => ({
        item,
        ...(groups[item] !== undefined && { group: groups[item] }),
        prompt: prompts.own[item],
        choices: questions[item]!.choices.map((text) => Prompt.continuation(prompts, text)),
        answer: questions[item]!.answer,
        pick,
        right,
        logprobs: sums,
        margin,
        ...(was && { referencePick: was[item]!.pick, referenceMargin: was[item]!.margin }),
      })),
    }
  }),
})

const question = (
  task: { readonly prompt: string; readonly choices: string | ReadonlyArray<string>; readonly answer: string },
  item: Scorer.Item,
  index: number,
) =>
  Effect.gen(function* () {
    const prompt = yield* Template.fill(task.prompt, item, index)
    const choices =
      typeof task.choices === "string"
        ? item[Template.field(task.choices) ?? ""]
        : yield* Effect.forEach(task.choices, (choice) => Template.fill(choice, item, index))
    if (!Array.isArray(choices) || choices.length < 2 || !choices.every((choice) => typeof choice === "string")) {
      return yield* Effect.fail(
        Scorer.unscorable(`item ${index}: ${String(task.choices)} is not a list of at least two texts`),
      )
    }
    const written = yield* Template.fill(task.answer, item, index)
    const answer = Number(written)
    if (!Number.isInteger(answer) || answer < 0 || answer >= choices.length) {
      return yield* Effect.fail(
        Scorer.unscorable(
          `item ${index}: the answer is '${written}'; expected an index from 0 to ${choices.length - 1}`,
        ),
      )
    }
    return { prompt, choices: choices as ReadonlyArray<string>, answer }
  })
