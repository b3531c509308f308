import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Amount } from "./Values.ts"

export default Stage.make({
  description: "a number by chance",
  version: 1,
  seeded: true,
  needs: { of: Stage.optional(Amount) },
  params: { sides: Schema.Int },
  hints: {},
  gives: Amount,
  outline: () => Effect.succeed({ digits: 1 }),
  run: ({ sides }, _, { seed }) => Effect.succeed({ value: Number(seed % BigInt(sides)) }),
})
