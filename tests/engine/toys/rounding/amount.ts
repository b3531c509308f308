import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Amount } from "./Values.ts"

export default Stage.make({
  description: "a number",
  version: 1,
  needs: {},
  params: {
    value: Schema.Int.annotate({ description: "the number itself" }),
    unit: Schema.optionalKey(Schema.String),
    limit: Schema.optionalKey(Schema.FiniteFromString),
  },
  hints: { jobs: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1))) },
  gives: Amount,
  outline: ({ value }) => Effect.succeed({ digits: String(value).length }),
  run: ({ value }) => Effect.succeed({ value }),
})
