import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Problem } from "../../../../src/engine/Problem.ts"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Amount } from "./Values.ts"

const Step = Schema.Struct({
  bits: Schema.Literals([2, 4, 8]),
  group: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))),
  method: Schema.String.pipe(Schema.withDecodingDefaultKey(Effect.succeed("nearest"))),
})

export default Stage.make({
  description: "a number on a coarser grid",
  version: 3,
  needs: { of: Stage.one(Amount), scale: Stage.optional(Amount) },
  params: {
    weights: Schema.Union([Schema.Literal("none"), Step]),
    kv: Schema.Union([Schema.Literal("none"), Step]).pipe(
      Schema.withDecodingDefaultKey(Effect.succeed("none" as const)),
    ),
    shift: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(0))),
  },
  hints: { batch: Schema.optionalKey(Schema.Int) },
  gives: Amount,
  labels: { weights: (it: typeof Step.Type | "none") => (it === "none" ? it : `w${it.bits}`) },
  outline: ({ weights }, { of }) =>
    weights !== "none" && weights.group !== undefined && of.digits % weights.group !== 0
      ? Effect.fail(
          new Problem({ path: ["weights", "group"], reason: `${weights.group} does not divide ${of.digits}` }),
        )
      : Effect.succeed(of),
  run: ({ shift }, { of }) => Effect.succeed({ value: of.value + shift }),
})
