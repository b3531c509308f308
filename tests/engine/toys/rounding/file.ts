import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { fileURLToPath } from "node:url"
import { Problem } from "../../../../src/engine/Problem.ts"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Amount } from "./Values.ts"

export default Stage.make({
  description: "a number from a file, read by a plug-in",
  version: 1,
  needs: {},
  params: { path: Schema.String, reader: Schema.optionalKey(Schema.String) },
  hints: {},
  gives: Amount,
  sources: ({ path }, locate) =>
    Effect.map(
      Effect.mapError(locate.resolve(path), ({ reason }) => new Problem({ path: ["path"], reason })),
      (file) => ({ file }),
    ),
  plugins: ({ reader }) =>
    Effect.succeed(reader === undefined ? [] : [fileURLToPath(new URL(`./${reader}.ts`, import.meta.url))]),
  outline: () => Effect.succeed({ digits: 1 }),
  run: () => Effect.succeed({ value: 1 }),
})
