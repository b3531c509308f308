import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { join } from "node:path"
import * as Registry from "../../../src/engine/plan/Registry.ts"
import { folder, toys } from "../Studies.ts"

it.effect("a stage is named by its path", () =>
  Effect.gen(function* () {
    const registry = Registry.load<never>(toys)
    assert.deepStrictEqual(registry.names(), ["amount", "compare", "dice", "file", "judge", "round", "tabulate"])
    const { use, file, stage } = yield* registry.get("round")
    assert.deepStrictEqual(
      [use, file, stage.description],
      ["round", join(toys, "round.ts"), "a number on a coarser grid"],
    )
    assert.strictEqual((yield* registry.get("round")).stage, stage)
    assert.include(Registry.load<never>(join(toys, "..")).names(), "rounding/round")
  }),
)

it.effect("what is no stage says so", () =>
  Effect.gen(function* () {
    const root = yield* folder({
      "deep/empty.ts": "export const x = 1\n",
      "broken.ts": 'throw new Error("on import")\n',
      "Shared.ts": "export default 1\n",
    })
    const registry = Registry.load<never>(root)
    const reason = (use: string) =>
      Effect.map(Effect.flip(registry.get(use)), (_) => _.reason.replaceAll(`${root}/`, ""))
    assert.strictEqual(
      yield* reason("deep/emty"),
      "no stage kind 'deep/emty'; did you mean 'deep/empty'? known: broken, deep/empty",
    )
    assert.strictEqual(yield* reason("Shared"), "no stage kind 'Shared'; known: broken, deep/empty")
    assert.strictEqual(
      yield* reason("../deep/empty"),
      "no stage kind '../deep/empty'; did you mean 'deep/empty'? known: broken, deep/empty",
    )
    assert.strictEqual(yield* reason("deep/empty"), "deep/empty.ts has no stage as its default export; use Stage.make")
    assert.strictEqual(yield* reason("broken"), "stage kind 'broken' does not load: Error: on import")
  }),
)
