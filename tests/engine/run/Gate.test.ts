import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Gate from "../../../src/engine/run/Gate.ts"

describe("Gate", () => {
  it.live("lets so many through at a time, in order", () =>
    Effect.gen(function* () {
      const gate = Gate.make(2)
      const entered: Array<number> = []
      let inside = 0
      let most = 0
      const work = (order: number) =>
        gate.pass(
          order,
          Effect.gen(function* () {
            entered.push(order)
            most = Math.max(most, (inside += 1))
            yield* Effect.sleep(5)
            inside -= 1
          }),
        )
      yield* Effect.forEach([5, 3, 4, 1, 2], work, { concurrency: "unbounded" })
      assert.deepStrictEqual(entered, [1, 2, 3, 4, 5])
      assert.strictEqual(most, 2)
    }),
  )

  it.live("who is interrupted while waiting or inside leaves room for others", () =>
    Effect.gen(function* () {
      const gate = Gate.make(1)
      const inside = yield* Effect.forkChild(gate.pass(1, Effect.never))
      const waiting = yield* Effect.forkChild(gate.pass(2, Effect.never))
      yield* Effect.sleep(5)
      yield* Fiber.interrupt(waiting)
      yield* Fiber.interrupt(inside)
      assert.strictEqual(yield* gate.pass(3, Effect.succeed("in")), "in")
    }),
  )
})
