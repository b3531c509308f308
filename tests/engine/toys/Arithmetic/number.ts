/** A number from the study or from a file; of a file's digits only the slice is kept. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { Problem } from "../../../../src/engine/Problem.ts"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Numeral } from "./Numeral.ts"

export default Stage.make({
  description: "A number",
  version: 1,
  needs: {},
  params: { value: Schema.optionalKey(Schema.Finite), file: Schema.optionalKey(Schema.String) },
  hints: { pause: Schema.optionalKey(Schema.Finite) },
  gives: Numeral,
  sources: ({ file }, locate) =>
    file === undefined ? Effect.succeed({}) : Effect.map(locate.resolve(file), (path) => ({ file: path })),
  outline: ({ value = 0 }) =>
    value > 1_000_000
      ? Effect.fail(new Problem({ path: ["value"], reason: "larger than a million; take a smaller one" }))
      : Effect.succeed({ positive: value > 0 }),
  run: Effect.fnUntraced(function* ({ value, pause }, _, context) {
    const { file } = context.sources
    const bytes = file === undefined ? Buffer.from(String(value ?? 0)) : readFileSync(file.path)
    yield* Effect.sleep(pause ?? 0)
    const digits =
      file === undefined
        ? yield* context.put(bytes)
        : {
            blob: createHash("sha256").update(bytes).digest("hex"),
            bytes: bytes.length,
            within: { file: file.digest, offset: 0 },
          }
    return { value: parseFloat(bytes.toString()), digits }
  }),
})
