import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Amount, Score } from "./Values.ts"

export default Stage.make({
  description: "how good a number is",
  version: 1,
  needs: { model: Stage.one(Amount) },
  params: { task: Schema.String },
  hints: {},
  gives: Score,
  outline: (_, { model }) => Effect.succeed(model),
  run: (_, { model }) => Effect.succeed(model),
})
