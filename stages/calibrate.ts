/**
 * `use: calibrate`: what activations look like on real text, for methods that need to know and for readers who want to.
 *
 *     seen: { use: calibrate, model: $base, text: "bundled:tiny/data/prose.txt", sequences: 16, length: 256 }
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Problem } from "../src/engine/Problem.ts"
import * as Stage from "../src/engine/Stage.ts"
import { Statistic } from "../src/methods/Method.ts"
import * as Task from "../src/tasks/Task.ts"
import * as Data from "./Data.ts"
import * as Model from "./Model.ts"
import * as Plugin from "./Plugin.ts"
import * as Statistics from "./Statistics.ts"

const Count = Schema.Int.check(Schema.isGreaterThan(0))

export default Stage.make({
  description: "Collects activation statistics of every linear's input and of K and V on calibration text.",
  version: 1,
  seeded: true,
  needs: { model: Stage.one(Model.Model) },
  params: {
    text: Schema.optionalKey(
      Schema.NonEmptyString.annotate({
        description: "A text or data file: bundled:… or file:… (.txt, .jsonl, .json, .csv).",
      }),
    ),
    task: Schema.optionalKey(
      Schema.NonEmptyString.annotate({ description: "Instead of text: the data of this task." }),
    ),
    field: Schema.String.annotate({ description: "Which field of the rows is the text." }).pipe(
      Schema.withDecodingDefaultKey(Effect.succeed("text")),
    ),
    sequences: Count.pipe(Schema.annotate({ description: "How many sequences, at seeded random places of the text." })),
    length: Schema.Int.check(Schema.isGreaterThan(1)).pipe(
      Schema.annotate({ description: "Tokens of a sequence, with BOS." }),
    ),
    bos: Schema.Boolean.annotate({ description: "Begin every sequence with the BOS token." }).pipe(
      Schema.withDecodingDefaultKey(Effect.succeed(true)),
    ),
    collect: Schema.Array(Statistic)
      .check(Schema.isMinLength(1))
      .annotate({ description: "Statistics per channel; gram is X^T X, [channels, channels]." })
      .pipe(Schema.withDecodingDefaultKey(Effect.succeed(["min", "max", "absmax", "mean", "meanSquare"] as const))),
  },
  hints: {
    batch_tokens: Count.annotate({ description: "Tokens that go through a block together." }).pipe(
      Schema.withDecodingDefaultKey(Effect.succeed(2048)),
    ),
  },
  gives: Statistics.Statistics,
  sources: ({ task, text }, locate) =>
    Effect.gen(function* () {
      if ((text === undefined) === (task === undefined)) {
        return yield* new Problem({
          path: [],
          reason: "give either text or task: where the calibration text comes from",
        })
      }
      const at = <A>(effect: Effect.Effect<A, { readonly message: string }>) =>
        Effect.mapError(
          effect,
          ({ message }) => new Problem({ path: [text === undefined ? "task" : "text"], reason: message }),
        )
      if (text !== undefined) return { data: yield* at(locate.resolve(text)) }
      const file = /[./]/.test(task!) ? yield* at(locate.resolve(task!)) : yield* Plugin.path("tasks", task!, ["task"])
      const { data } = yield* at(Task.readCommon(file))
      return yield* at(Data.sources(data, locate))
    }),
  outline: (params, { model }) =>
    params.length > model.outline.shape.context
      ? Effect.fail(
          new Problem({
            path: ["length"],
            reason: `sequences of ${params.length} tokens; the model's positions end at ${model.outline.shape.context}`,
          }),
        )
      : Effect.succeed({ collected: params.collect }),
  run: Effect.fnUntraced(function* (params, inputs, context) {
    const { calibrate } = yield* Effect.promise(() => import("./Calibrating.ts"))
    return yield* calibrate(params, inputs, context)
  }),
})
