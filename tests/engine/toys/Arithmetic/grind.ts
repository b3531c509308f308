/** Keeps a worker busy in native code. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Pool } from "../../../../src/compute/Pool.ts"
import { StageFailure } from "../../../../src/engine/Problem.ts"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Numeral } from "./Numeral.ts"

export default Stage.make({
  description: "Work for a worker",
  version: 1,
  needs: {},
  params: { rounds: Schema.Int },
  hints: {},
  gives: Numeral,
  outline: () => Effect.succeed({ positive: true }),
  run: Effect.fnUntraced(function* ({ rounds }, _, context) {
    const pool = yield* Pool
    const text = yield* Effect.mapError(
      pool.call<string>(new URL("./Grinding.ts", import.meta.url), "grind", rounds),
      ({ message }) => new StageFailure({ reason: message }),
    )
    return { value: text.length, digits: yield* context.put(Buffer.from(text)) }
  }),
})
