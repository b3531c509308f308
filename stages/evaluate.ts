/** `use: evaluate`: a model's scores on a task and, given a reference model, how far it is from the reference. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Templates } from "../src/data/ChatTemplate.ts"
import { Problem } from "../src/engine/Problem.ts"
import * as Stage from "../src/engine/Stage.ts"
import * as Prompt from "../src/tasks/Prompt.ts"
import * as Scorer from "../src/tasks/Scorer.ts"
import * as Task from "../src/tasks/Task.ts"
import * as Data from "./Data.ts"
import * as Model from "./Model.ts"
import * as Plugin from "./Plugin.ts"
import * as Scores from "./Scores.ts"

const atTask = <A>(effect: Effect.Effect<A, { readonly message: string }>): Effect.Effect<A, Problem> =>
  Effect.mapError(effect, ({ message }) => new Problem({ path: ["task"], reason: message }))

/** The scorer that a task file names. */
const scorerFile = (file: string) =>
  Effect.gen(function* () {
    const { kind } = yield* atTask(Task.readCommon(file))
    return yield* Effect.mapError(
      Plugin.path("tasks", kind, ["task"], ".ts"),
      ({ reason }) => new Problem({ path: ["task"], reason: `${file}: kind: ${reason}` }),
    )
  })

/** Settings that a study may sweep; each replaces the task's own. */
const overrides = {
  chat: Schema.optionalKey(
    Prompt.Chat.annotate({
      description:
        "Ask in the model's chat template: true, or { system: …, template: …, date: … }. Else prompts stand as they are.",
    }),
  ),
  temperature: Schema.optionalKey(Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))),
  top_k: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))),
  top_p: Schema.optionalKey(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))),
  bos: Schema.optionalKey(
    Schema.Boolean.annotate({
      description: "Whether texts begin with BOS. Else as the task says, or as the model's tokenizer has it.",
    }),
  ),
  max_tokens: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))),
}
export type Overrides = Schema.Struct<typeof overrides>["Type"]
/** Those that the study gives. */
const given = (params: Overrides): Overrides =>
  Object.fromEntries(Object.entries(params).filter(([name, value]) => name in overrides && value !== undefined))

/** A word to the template: one that refuses every conversation is known before anything runs. */
const tried = Effect.fnUntraced(function* (chat: Prompt.Chat, templates: Templates) {
  const [{ NAMES }, ChatTemplate] = yield* Effect.promise(() =>
    Promise.all([import("../src/data/AddedTokens.ts"), import("../src/data/ChatTemplate.ts")]),
  )
  const { date, template } = Prompt.style(chat)
  const text = yield* Effect.mapError(ChatTemplate.pick(templates, template), ({ message }) => ({
    message: `${message}; load takes one as chat_template: ./file.jinja`,
  }))
  const messages = Prompt.ask(Prompt.begin(chat), "?")
  // Their texts are not known yet.
  const special = Object.fromEntries(NAMES.map((name) => [name, `<${name}>`]))
  yield* ChatTemplate.render(text, { ...special, messages, add_generation_prompt: true }, date)
})

export default Stage.make({
  description: "Scores a model on a task; with a reference, also KL divergence, agreement and answer flips.",
  version: 1,
  seeded: true,
  needs: { model: Stage.one(Model.Model), reference: Stage.optional(Model.Model) },
  params: {
    task: Schema.NonEmptyString.annotate({
      description: "A task of src/tasks/ by name, or the path of a task file (./my-task.yaml).",
    }),
    limit: Schema.optionalKey(
      Schema.Int.check(Schema.isGreaterThan(0)).annotate({ description: "Only the first so many items." }),
    ),
    ...overrides,
  },
  hints: {
    batch_tokens: Schema.Int.check(Schema.isGreaterThan(0))
      .annotate({ description: "Tokens that go through a block together." })
      .pipe(Schema.withDecodingDefaultKey(Effect.succeed(2048))),
    memory: Schema.Int.check(Schema.isGreaterThan(0))
      .annotate({ description: "MiB that weights and caches kept for generation may take." })
      .pipe(Schema.withDecodingDefaultKey(Effect.succeed(512))),
  },
  gives: Scores.Scores,
  sources: ({ task }, locate) =>
    Effect.gen(function* () {
      const file = /[./]/.test(task)
        ? yield* Effect.mapError(locate.resolve(task), ({ reason }) => new Problem({ path: ["task"], reason }))
        : yield* Plugin.path("tasks", task, ["task"])
      const { data } = yield* atTask(Task.readCommon(file))
      const found = yield* Effect.mapError(
        Data.sources(data, locate),
        ({ reason }) => new Problem({ path: ["task"], reason: `${file}: ${reason}` }),
      )
      return { task: file, ...found }
    }),
  plugins: (_params, sources) => Effect.map(scorerFile(sources["task"]!), (file) => [file]),
  outline: (params, { model, reference }, sources) =>
    Effect.gen(function* () {
      const scorer = yield* Plugin.load(yield* scorerFile(sources["task"]!), Scorer.isScorer)
      const task = yield* atTask(Task.readTask(sources["task"]!, scorer))
      for (const name of Object.keys(given(params))) {
        if (!(name in scorer.fields)) {
          const reason = `'${name}' is for tasks that ${name === "chat" ? "have prompts" : "generate"}; ${params.task} is of kind ${task.kind}`
          return yield* new Problem({ path: [name], reason })
        }
      }
      const { context, vocabulary } = model.outline.shape
      const needs = scorer.needs({ ...task, ...given(params) })
      if (needs > context) {
        const reason = `${params.task} needs sequences of ${needs} tokens; the model's positions end at ${context}`
        return yield* new Problem({ path: ["task"], reason })
      }
      if (reference && reference.outline.shape.vocabulary !== vocabulary) {
        const reason = `the reference has ${reference.outline.shape.vocabulary} tokens, the model ${vocabulary}; they cannot be compared token by token`
        return yield* new Problem({ path: ["reference"], reason })
      }
      const chat: Prompt.Chat = params.chat ?? ("chat" in task ? (task.chat as Prompt.Chat) : false)
      if (chat !== false) {
        if (params.bos !== undefined || ("bos" in task && task.bos !== undefined)) {
          const reason = "'bos' is for prompts that stand as they are; a chat template begins its own texts"
          return yield* new Problem({ path: [params.bos === undefined ? "task" : "bos"], reason })
        }
        for (const { templates } of reference ? [model, reference] : [model]) {
          yield* Effect.mapError(tried(chat, templates), ({ message }) => {
            const reason = `${params.task} asks in the model's chat template, and ${message}`
            return new Problem({ path: [params.chat === undefined ? "task" : "chat"], reason })
          })
        }
      }
      return { task: params.task }
    }),
  run: Effect.fnUntraced(function* (params, inputs, context) {
    const { evaluate } = yield* Effect.promise(() => import("./Evaluating.ts"))
    return yield* evaluate(params, given(params), inputs, context)
  }),
})
