import * as Effect from "effect/Effect"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Score } from "./Values.ts"

export default Stage.make({
  description: "one score against another",
  version: 1,
  needs: { left: Stage.one(Score), right: Stage.one(Score) },
  params: {},
  hints: {},
  gives: Score,
  outline: (_, { left }) => Effect.succeed(left),
  run: (_, { left, right }) => Effect.succeed({ value: left.value - right.value }),
})
