/** A number rounded to a step: different inputs often give one output. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Numeral } from "./Numeral.ts"

export default Stage.make({
  description: "A number rounded to a step",
  version: 1,
  needs: { of: Stage.one(Numeral) },
  params: { step: Schema.Finite },
  hints: {},
  gives: Numeral,
  outline: (_, { of }) => Effect.succeed(of),
  run: Effect.fnUntraced(function* ({ step }, { of }, context) {
    const value = Math.round(of.value / step) * step
    return { value, digits: yield* context.put(Buffer.from(String(value))) }
  }),
})
