/** Not deterministic: a number that is one more each time it is computed. */
import * as Effect from "effect/Effect"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Numeral } from "./Numeral.ts"

let times = 0

export default Stage.make({
  description: "A number that never is the same",
  version: 1,
  needs: {},
  params: {},
  hints: {},
  gives: Numeral,
  outline: () => Effect.succeed({ positive: true }),
  run: Effect.fnUntraced(function* (_, __, context) {
    times += 1
    return { value: times, digits: yield* context.put(Buffer.from(`drift ${times}`)) }
  }),
})
