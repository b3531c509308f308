import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Score, Table } from "./Values.ts"

export default Stage.make({
  description: "all scores in rows",
  version: 1,
  needs: { scores: Stage.many(Score) },
  params: { columns: Schema.Array(Schema.String).pipe(Schema.withDecodingDefaultKey(Effect.succeed([]))) },
  hints: {},
  gives: Table,
  outline: (_, { scores }) => Effect.succeed({ rows: scores.length }),
  run: (_, { scores }) => Effect.succeed({ rows: scores.map(({ cell, value }) => `${cell}: ${value.value}`) }),
})
