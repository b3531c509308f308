import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import * as Explain from "../../../src/engine/run/Explain.ts"
import * as ExplainText from "../../../src/engine/run/ExplainText.ts"
import { Store } from "../../../src/engine/store/Store.ts"
import * as Survey from "../../../src/engine/run/Survey.ts"
import { folder, plan, run } from "../Workbench.ts"

const study = ({ value = 4, by = "2, 3", step = 10, file = "" }) => `
a: { use: number, ${file === "" ? `value: ${value}` : `file: ${file}`} }
b: { use: scale, of: $a, matrix: { by: [${by}] } }
c: { use: round, of: $b, step: ${step} }
d: { use: list, numbers: $c }`

/** What `why` prints, files by their last name. */
const why = Effect.fnUntraced(function* (folder: string, yaml: string, id: string, set: ReadonlyArray<string> = []) {
  const store = yield* Store
  const planned = yield* plan(folder, yaml, "toys", set)
  const explain = Explain.make(
    store,
    planned,
    Survey.make(store, planned, () => false),
  )
  const cell = planned.cells.find((cell) => cell.id === id)!
  return ExplainText.lines(explain.why(cell), basename)
})
const compute = Effect.fnUntraced(function* (folder: string, yaml: string) {
  return yield* run(yield* plan(folder, yaml))
})

describe("Explain", () => {
  it.live("a cell that was never computed", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* why(yield* folder, study({}), "a"), [
        "a is to be computed:",
        "  nothing of its kind has been computed yet",
      ])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a cached cell: by which run, and when", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* compute(at, study({}))
      const [line, ...rest] = yield* why(at, study({}), "d")
      assert.match(line!, /^d is cached: computed as d of toys, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, in \d/)
      assert.deepStrictEqual(rest, [])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a changed parameter, at its line and column; through a matrix too", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* compute(at, study({}))
      assert.deepStrictEqual((yield* why(at, study({ step: 5 }), "c[by=2]")).slice(1), [
        "  step: 10 -> 5  (toys.yaml:6:34)",
      ])
      assert.deepStrictEqual((yield* why(at, study({ by: "2, 7" }), "b[by=7]")).slice(1), [
        "  by: 3 -> 7  (toys.yaml:5:46)",
      ])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a cell whose input is yet to be computed is compared with what came of the input's own nearest", () =>
    Effect.gen(function* () {
      const at = yield* folder
      const scaled = (by: number) => `
a: { use: number, value: 4 }
b: { use: scale, of: $a, matrix: { by: [${by}] } }`
      const rounded = (by: number) => `${scaled(by)}
c: { use: round, of: $b, matrix: { step: [10, 5, 3] } }`
      // Of the two b the second is the newest, of the six c those of the first.
      yield* compute(at, scaled(2))
      yield* compute(at, rounded(300))
      yield* compute(at, rounded(2))
      for (const step of [10, 5, 3]) {
        const [head, ...reasons] = yield* why(at, rounded(301), `c[by=301, step=${step}]`)
        assert.match(head!, new RegExp(`compared with c\\[by=300, step=${step}\\]`))
        assert.deepStrictEqual(reasons, [
          "  input of is to be computed first: b[by=301]",
          "  because by: 300 -> 301  (toys.yaml:5:43)",
        ])
      }
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a value set on the command line is where it was set", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* compute(at, study({}))
      const [, line] = yield* why(at, study({}), "a", ["a.value=9"])
      assert.match(line!, /^ {2}value: 4 -> 9 {2}\(--set/)
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a changed input is followed to where the change began", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* compute(at, study({}))
      assert.deepStrictEqual((yield* why(at, study({ value: 5 }), "c[by=2]")).slice(1), [
        "  input of is to be computed first: b[by=2]",
        "  because input of is to be computed first: a",
        "          because value: 4 -> 5  (toys.yaml:4:28)",
      ])
      // The same once the inputs have been computed, and their results are known to differ.
      const other = yield* plan(at, study({ value: 5 }))
      yield* run(other, { targets: other.stages.get("b")! })
      assert.deepStrictEqual((yield* why(at, study({ value: 5 }), "c[by=2]")).slice(1), [
        "  input of changed: b[by=2]",
        "  because input of changed: a",
        "          because value: 4 -> 5  (toys.yaml:4:28)",
      ])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("cells that came and went among those gathered", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* compute(at, study({}))
      const [, line] = yield* why(at, study({ by: "2, 7" }), "d")
      assert.strictEqual(line, "  input numbers: c[by=7] added; c[by=3] removed")
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("an edited file", () =>
    Effect.gen(function* () {
      const at = yield* folder
      writeFileSync(join(at, "n.txt"), "4")
      yield* compute(at, study({ file: "n.txt" }))
      writeFileSync(join(at, "n.txt"), "5")
      assert.deepStrictEqual((yield* why(at, study({ file: "n.txt" }), "a")).slice(1), ["  file n.txt changed"])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("bytes that are gone", () =>
    Effect.gen(function* () {
      const at = yield* folder
      const { traces } = yield* compute(at, study({}))
      const { files } = yield* Store
      const { blobs } = [...traces].find(([{ id }]) => id === "a")![1]
      const { remove } = yield* Effect.promise(() => import("../../../src/engine/store/Blobs.ts"))
      yield* files.index.write((transaction) => remove(transaction, blobs[0]!))
      assert.deepStrictEqual((yield* why(at, study({}), "a")).slice(1), ["  its bytes are no longer in the cache"])
    }).pipe(Effect.provide(Store.layerMemory)),
  )
})
