import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Store } from "../../src/engine/Store.ts"
import { folder, having, plan, run } from "./Workbench.ts"

const chain = (value: number, by: string, step = 10) => `
a: { use: number, value: ${value} }
b: { use: scale, of: $a, matrix: { by: [${by}] } }
c: { use: round, of: $b, step: ${step} }
d: { use: list, numbers: $c }`

/** Plans and runs; what was computed, in plan order. */
const computed = Effect.fnUntraced(function* (folder: string, yaml: string, name = "toys") {
  const it = yield* plan(folder, yaml, name)
  return having(it, yield* run(it), "computed")
})

describe("Run", () => {
  it.live("computes what is missing, once", () =>
    Effect.gen(function* () {
      const at = yield* folder
      assert.deepStrictEqual(yield* computed(at, chain(4, "2, 3")), [
        "a", "b[by=2]", "b[by=3]", "c[by=2]", "c[by=3]", "d",
      ])
      assert.deepStrictEqual(yield* computed(at, chain(4, "2, 3")), [])
    }).pipe(Effect.provide(Store.layerMemory)))
})
