/** A number times another; each product is a work unit. Fails on demand. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { existsSync } from "node:fs"
import { StageFailure } from "../../../../src/engine/Problem.ts"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Numeral, Value } from "./Numeral.ts"

export default Stage.make({
  description: "A number times another",
  version: 1,
  needs: { of: Stage.one(Numeral) },
  params: { by: Schema.Finite, unless: Schema.optionalKey(Schema.String) },
  hints: { pause: Schema.optionalKey(Schema.Finite) },
  gives: Numeral,
  outline: (_, { of }) => Effect.succeed(of),
  run: Effect.fnUntraced(function* ({ by, unless, pause }, { of }, context) {
    const digits = Buffer.from(yield* context.read(of.digits)).toString()
    yield* context.log(`${digits} x ${by}`)
    yield* context.progress(1, 2, "factors")
    if (unless !== undefined && !existsSync(unless)) return yield* new StageFailure({ reason: `no ${unless} yet` })
    const product = Effect.gen(function* () {
      yield* Effect.sleep(pause ?? 0)
      const value = parseFloat(digits) * by
      return { value, digits: yield* context.put(Buffer.from(String(value))) }
    })
    return yield* context.memo("product", { of: of.digits.blob, by }, Value, product)
  }),
})
