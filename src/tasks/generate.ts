/**
 * Free generation, one turn or several: the model continues the prompt, an answer is taken from what it says, and
 * `exact_match` counts the answers that are right, over all turns. `extracted` says how often there was an answer to
 * take at all, so that a model that lost the format is not mistaken for one that lost the skill.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Prompt from "./Prompt.ts"
import * as Scorer from "./Scorer.ts"
import * as Summary from "./Summary.ts"
import * as Template from "./Template.ts"

const Pattern = Schema.String.check(
  Schema.makeFilter((text: string) => {
    try {
      return void new RegExp(text, "g")
    } catch (cause) {
      return `not a regular expression: ${(cause as Error).message}`
    }
  }),
)
const absent = <A extends Schema.Json>(value: A) => Effect.succeed(value)

const fields = {
  prompt: Schema.String,
  answer: Schema.String,
  ...Prompt.fields,
  /** Follow-up turns; the model's own answers stay in the context. */
  follow_up: Schema.Array(Schema.Struct({ prompt: Schema.String, answer: Schema.String })).pipe(
    Schema.withDecodingDefaultKey(absent([])),
  ),
  /** The last match's first group (or whole match) is the answer; without it the whole trimmed output is. */
  extract: Schema.optionalKey(Pattern),
  stop: Schema.Array(Schema.NonEmptyString),
  max_tokens: Schema.Int.check(Schema.isGreaterThan(0)),
  /** 0 is greedy. */
  temperature: Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0)).pipe(Schema.withDecodingDefaultKey(absent(0))),
  /** 0 is all tokens. */
  top_k: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)).pipe(Schema.withDecodingDefaultKey(absent(0))),
  top_p: Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 })).pipe(
    Schema.withDecodingDefaultKey(absent(1)),
  ),
}

/** The answer in a continuation, or `undefined` where the pattern finds none. */
export const extract = (text: string, pattern: string | undefined): string | undefined => {
  if (pattern === undefined) return text.trim()
  const found = [...text.matchAll(new RegExp(pattern, "g"))].at(-1)
  return (found?.[1] ?? found?.[0])?.trim()
}

export default Scorer.make({
  description: "generation with exact match of an extracted answer, in one or several turns",
  fields,
  needs: ({ max_tokens }) => max_tokens,
  run: Effect.fnUntraced(function* (task, items, subject) {
    const groups = yield* Effect.forEach(items, (item, i) => Template.group(task.group, item, i))
    const options = {
      maxTokens: task.max_tokens,
      stop: task.stop,
      sampling: { temperature: task.temperature, topK: task.top_k, topP: task.top_p },
    }
    const turns = [{ prompt: task.prompt, answer: task.answer }, ...task.follow_up]
    const fill = (template: string) => Effect.forEach(items, (item, i) => Template.fill(template, item, i))
    let own = items.map(() => Prompt.begin(task.chat))
    let other = subject.hasReference ? own : undefined
    const seen: Array<ReadonlyArray<Answer & { readonly prompt: string }>> = []
    for (const turn of turns) {
      const prompts = yield* fill(turn.prompt)
      const answers = yield* fill(turn.answer)
      own = own.map((conversation, i) => Prompt.ask(conversation, prompts[i]!))
      other = other?.map((conversation, i) => Prompt.ask(conversation, prompts[i]!))
      const asked = yield* Prompt.prompts(task, { own, reference: other }, subject)
      const said = yield* subject.generate(asked, options)
      seen.push(
        items.map((_, i) => ({
          prompt: asked.own[i]!,
          ...judge(said.own[i]!, said.reference?.[i], answers[i]!.trim(), task.extract),
        })),
      )
      own = own.map((conversation, i) => Prompt.answer(conversation, said.own[i]!))
      other = other?.map((conversation, i) => Prompt.answer(conversation, said.reference![i]!))
    }
    const all = seen.flat()
    const everyGroup = seen.flatMap(() => groups)
    const chance = task.chance === undefined ? {} : { chance: task.chance }
    const score = { better: "higher", ...chance } as const
    const perTurn =
      turns.length === 1
        ? []
        : seen.map((turn, t) =>
            Summary.average(
              `exact_match_turn${t + 1}`,
              turn.map(({ right }) => Number(right)),
              { ...score, primary: false },
            ),
          )
    return {
      metrics: [
        ...Summary.grouped(
          "exact_match",
          all.map(({ right }) => Number(right)),
          everyGroup,
          { ...score, primary: true },
        ),
        ...perTurn,
        Summary.average(
          "extracted",
          all.map(({ answer }) => Number(answer !== undefined)),
          { better: "higher", primary: false },
        ),
        ...Summary.flips(
          all.map(({ right }) => right),
          other && all.map(({ referenceRight }) => referenceRight === true),
        ),
        ...(other
          ? [
              Summary.average(
                "same_text",
                all.map(({ same }) => Number(same === true)),
                { better: "higher", primary: false },
              ),
            ]
          : []),
      ],
      records: items.map((_, item) => ({
        item,
        ...(groups[item] !== undefined && { group: groups[item] }),
        turns: seen.map((turn) => turn[item]),
      })),
    }
  }),
})

interface Answer {
  readonly said: string
  readonly answer: string | undefined
  readonly expected: string
  readonly right: boolean
  readonly referenceRight?: boolean
  readonly same?: boolean
}
const judge = (said: string, reference: string | undefined, expected: string, pattern: string | undefined): Answer => {
  const answer = extract(said, pattern)
  return {
    said,
    answer,
    expected,
    right: answer === expected,
    ...(reference !== undefined && {
      referenceRight: extract(reference, pattern) === expected,
      same: said === reference,
    }),
  }
}
