import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { existsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Blobs from "../../../src/engine/store/Blobs.ts"
import { key, Kind } from "../../../src/engine/store/Codec.ts"
import * as Key from "../../../src/engine/plan/Key.ts"
import { Store } from "../../../src/engine/store/Store.ts"
import { folder, having, plan, recorder, run } from "../Workbench.ts"

const chain = ({ value = 4, by = "2, 3", step = 10, pause = 0 }) => `
a: { use: number, value: ${value} }
b: { use: scale, of: $a, matrix: { by: [${by}] }, pause: ${pause} }
c: { use: round, of: $b, step: ${step} }
d: { use: list, numbers: $c }`

/** Plans and runs; what was computed, in plan order. */
const computed = Effect.fnUntraced(function* (folder: string, yaml: string, name = "toys") {
  const planned = yield* plan(folder, yaml, name)
  return having(planned, yield* run(planned), "computed")
})
const rounded = (value: number) => `
a: { use: number, value: ${value} }
b: { use: round, of: $a, step: 10 }
c: { use: scale, of: $b, by: 2 }`
const product = (by: number) => `a: { use: number, value: 4 }\nb: { use: scale, of: $a, by: ${by} }`
const filed = (pause: number) => `
a: { use: number, file: n.txt, pause: ${pause} }
b: { use: scale, of: $a, by: 2 }`
const drifting = (step: number) => `a: { use: drift }\nb: { use: round, of: $a, step: ${step} }`
const all = ["a", "b[by=2]", "b[by=3]", "c[by=2]", "c[by=3]", "d"]
const digestOf = (text: string) => Key.sha256(text)

/** What a lost or damaged disk does to a blob. */
const lose = Effect.fnUntraced(function* (digest: string) {
  const { files } = yield* Store
  yield* files.index.write((transaction) => Blobs.remove(transaction, digest))
})
const damage = Effect.fnUntraced(function* (digest: string) {
  const { files } = yield* Store
  yield* files.objects.write((transaction) => transaction.put(Blobs.chunkKey(digest, 0), Buffer.from("?")))
})
const loseDocument = Effect.fnUntraced(function* (digest: string) {
  const { files } = yield* Store
  yield* files.index.write((transaction) => transaction.remove(key(Kind.document, digest)))
})

describe("Run", () => {
  it.live("computes what is missing, and nothing the second time", () =>
    Effect.gen(function* () {
      const at = yield* folder
      assert.deepStrictEqual(yield* computed(at, chain({})), all)
      assert.deepStrictEqual(yield* computed(at, chain({})), [])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a changed parameter computes its dependents again and nothing else", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* computed(at, chain({}))
      assert.deepStrictEqual(yield* computed(at, chain({ by: "2, 7" })), ["b[by=7]", "c[by=7]", "d"])
      assert.deepStrictEqual(yield* computed(at, chain({ by: "2, 7", step: 3 })), ["c[by=2]", "c[by=7]", "d"])
      assert.deepStrictEqual(yield* computed(at, chain({})), [])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("stops where an input comes out as it was", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* computed(at, rounded(11))
      const planned = yield* plan(at, rounded(12))
      const first = yield* run(planned)
      assert.deepStrictEqual(having(planned, first, "computed"), ["a", "b"])
      assert.deepStrictEqual(having(planned, first, "found"), ["c"])
      // The way there is remembered: next time nothing is found out again.
      const again = yield* run(yield* plan(at, rounded(12)))
      assert.strictEqual(again.outcomes.size, 0)
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("stops there even if the input's bytes are gone: what they were is known", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* computed(at, rounded(11))
      const planned = yield* plan(at, rounded(12))
      yield* run(planned, { targets: planned.stages.get("b")! })
      yield* lose(digestOf("10"))
      assert.deepStrictEqual(yield* computed(at, rounded(12)), [])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a result of an input that has since come out differently is not taken for the cell's", () =>
    Effect.gen(function* () {
      const at = yield* folder
      const first = yield* run(yield* plan(at, drifting(1)))
      const [a] = [...first.traces.values()]
      yield* lose(a!.blobs[0]!)
      assert.deepStrictEqual(yield* computed(at, drifting(2)), ["a", "b"])
      assert.deepStrictEqual(yield* computed(at, drifting(1)), ["b"])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("hints change nothing", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* computed(at, chain({}))
      assert.deepStrictEqual(yield* computed(at, chain({ pause: 1 })), [])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("studies share what they have in common, under any name", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* computed(at, chain({}), "one")
      const other = `
start: { use: number, value: 4 }
product: { use: scale, of: $start, matrix: { by: [3, 5] } }`
      assert.deepStrictEqual(yield* computed(at, other, "two"), ["product[by=5]"])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("two cells with one key are computed once", () =>
    Effect.gen(function* () {
      const planned = yield* plan(
        yield* folder,
        `
a: { use: number, value: 4 }
b: { use: scale, of: $a, by: 2, pause: 20 }
c: { use: scale, of: $a, by: 2, pause: 20 }`,
      )
      const report = yield* run(planned)
      assert.strictEqual(having(planned, report, "computed").length, 2)
      assert.strictEqual(having(planned, report, "found").length, 1)
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a work unit is shared by cells that differ elsewhere", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* computed(at, `a: { use: number, value: 4 }\nb: { use: scale, of: $a, by: 2 }`)
      const store = yield* Store
      const units = () => store.nearest("toys", "", "product", 10).length
      assert.strictEqual(units(), 1)
      // 4 as text has the digits of 4 as a number: another cell, the same unit.
      writeFileSync(join(at, "four.txt"), "4")
      const computedNow = yield* computed(at, `a: { use: number, file: four.txt }\nb: { use: scale, of: $a, by: 2 }`)
      assert.deepStrictEqual(computedNow, ["a", "b"])
      assert.strictEqual(units(), 1)
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a failure stops its dependents only, is told once, is not stored, and is tried again", () =>
    Effect.gen(function* () {
      const at = yield* folder
      const flag = join(at, "flag")
      const yaml = `
a: { use: number, value: 4 }
bad: { use: scale, of: $a, by: 2, unless: ${flag} }
after: { use: round, of: $bad, step: 10 }
good: { use: scale, of: $a, by: 3 }`
      const planned = yield* plan(at, yaml)
      const { events, provide } = recorder()
      const report = yield* provide(run(planned, { keepGoing: true }))
      assert.deepStrictEqual(having(planned, report, "computed"), ["a", "good"])
      assert.deepStrictEqual(having(planned, report, "failed"), ["bad"])
      assert.deepStrictEqual(having(planned, report, "skipped"), ["after"])
      assert.deepStrictEqual(
        events.filter(({ event }) => event === "failed"),
        [{ event: "failed", cell: "bad", stage: "bad", reason: `no ${flag} yet` }],
      )
      writeFileSync(flag, "")
      assert.deepStrictEqual(yield* computed(at, yaml), ["bad", "after"])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("without keep-going nothing new starts after a failure, and what runs finishes", () =>
    Effect.gen(function* () {
      const at = yield* folder
      const planned = yield* plan(
        at,
        `
a: { use: number, value: 4 }
slow: { use: scale, of: $a, by: 7, pause: 300 }
bad: { use: scale, of: $a, by: 2, unless: /nowhere/flag }
late: { use: scale, of: $a, matrix: { by: [11, 13] } }`,
      )
      const report = yield* run(planned, { jobs: 2 })
      assert.deepStrictEqual(having(planned, report, "failed"), ["bad"])
      assert.deepStrictEqual(having(planned, report, "computed"), ["a", "slow"])
      assert.deepStrictEqual(having(planned, report, "skipped"), ["late[by=11]", "late[by=13]"])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a forced stage is computed again, once, and what follows is found", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* computed(at, chain({}))
      const planned = yield* plan(at, chain({}))
      const report = yield* run(planned, { forced: ({ stage }) => stage === "b", targets: planned.cells })
      assert.deepStrictEqual(having(planned, report, "computed"), ["b[by=2]", "b[by=3]"])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("only the targets and what they need", () =>
    Effect.gen(function* () {
      const planned = yield* plan(yield* folder, chain({}))
      const report = yield* run(planned, { targets: planned.stages.get("b")!.slice(1) })
      assert.deepStrictEqual(having(planned, report, "computed"), ["a", "b[by=3]"])
    }).pipe(Effect.provide(Store.layerMemory)),
  )
})

describe("Run, when bytes are lost", () => {
  it.live("nothing is computed for what nobody needs", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* computed(at, chain({}))
      yield* lose(digestOf("8"))
      assert.deepStrictEqual(yield* computed(at, chain({})), [])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a missing input is computed again, and its inputs only as far as they are missing too", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* computed(at, chain({}))
      yield* lose(digestOf("8"))
      // The unit that made it is gone with it; a is still there.
      assert.deepStrictEqual(yield* computed(at, chain({ step: 3 })), ["b[by=2]", "c[by=2]", "c[by=3]", "d"])
      yield* lose(digestOf("8"))
      yield* lose(digestOf("4"))
      assert.deepStrictEqual(yield* computed(at, chain({ step: 7 })), ["a", "b[by=2]", "c[by=2]", "c[by=3]", "d"])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a missing document of a target is computed again", () =>
    Effect.gen(function* () {
      const at = yield* folder
      const first = yield* plan(at, chain({}))
      const { targets, traces } = yield* run(first)
      yield* loseDocument(traces.get(targets[0]!)!.output)
      assert.deepStrictEqual(yield* computed(at, chain({})), ["d"])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a damaged document of a target that is going to be read is computed again", () =>
    Effect.gen(function* () {
      const at = yield* folder
      const by = Array.from({ length: 600 }, (_, i) => i + 1).join(", ")
      const study = `a: { use: number, value: 4 }\nb: { use: round, of: $a, matrix: { step: [${by}] } }\nd: { use: list, numbers: $b }`
      const { targets, traces } = yield* run(yield* plan(at, study), { jobs: 20 })
      const { output } = traces.get(targets[0]!)!
      // Large enough to be kept in chunks.
      yield* damage(output)
      const planned = yield* plan(at, study)
      const report = yield* run(planned, { read: () => true })
      assert.deepStrictEqual(having(planned, report, "computed"), ["d"])
      assert.isDefined((yield* Store).getDocument(output))
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("bytes that turn out wrong while a stage reads them are made again, and the value is right", () =>
    Effect.gen(function* () {
      const at = yield* folder
      yield* computed(at, product(2))
      yield* damage(digestOf("4"))
      const planned = yield* plan(at, product(5))
      const report = yield* run(planned)
      assert.deepStrictEqual(having(planned, report, "computed"), ["a", "b"])
      const store = yield* Store
      const bytes = yield* store.readBlob({ blob: digestOf("20"), bytes: 2 })
      assert.strictEqual(Buffer.from(bytes).toString(), "20")
    }).pipe(Effect.provide(Store.layerMemory)),
  )
})

describe("Run, with files", () => {
  it.live("an edited file computes its dependents again; the bytes count, not the path", () =>
    Effect.gen(function* () {
      const at = yield* folder
      writeFileSync(join(at, "n.txt"), "4")
      assert.deepStrictEqual(yield* computed(at, filed(0)), ["a", "b"])
      writeFileSync(join(at, "n.txt"), "5")
      assert.deepStrictEqual(yield* computed(at, filed(0)), ["a", "b"])
      writeFileSync(join(at, "n.txt"), "4")
      assert.deepStrictEqual(yield* computed(at, filed(0)), [])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("what was made from a file that was edited meanwhile is not kept", () =>
    Effect.gen(function* () {
      const at = yield* folder
      const file = join(at, "n.txt")
      writeFileSync(file, "4")
      const planned = yield* plan(at, filed(200))
      const fiber = yield* Effect.forkChild(run(planned))
      yield* Effect.sleep(100)
      writeFileSync(file, "5")
      const report = yield* Fiber.join(fiber)
      assert.deepStrictEqual(having(planned, report, "failed"), ["a"])
      const outcome = report.outcomes.get(planned.cells[0]!)
      assert.include(outcome?.kind === "failed" ? outcome.reason : "", "n.txt changed while it was being read")
      writeFileSync(file, "4")
      assert.deepStrictEqual(yield* computed(at, filed(0)), ["a", "b"])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("a slice of a file is not copied into the store", () =>
    Effect.gen(function* () {
      const at = yield* folder
      writeFileSync(join(at, "n.txt"), "4")
      yield* computed(at, filed(0))
      const store = yield* Store
      assert.isFalse(store.hasBlob(digestOf("4")))
      assert.isTrue(store.hasBlob(digestOf("8")))
      assert.isTrue(existsSync(join(at, "n.txt")))
    }).pipe(Effect.provide(Store.layerMemory)),
  )
})

describe("Run, interrupted", () => {
  it.live("leaves no lease and no run behind, and keeps what was finished", () =>
    Effect.gen(function* () {
      const at = yield* folder
      const planned = yield* plan(at, chain({ pause: 60_000 }))
      const fiber = yield* Effect.forkChild(run(planned))
      yield* Effect.sleep(300)
      yield* Fiber.interrupt(fiber)
      const { files } = yield* Store
      for (const kind of [Kind.lease, Kind.run]) assert.deepStrictEqual([...files.index.keys(Uint8Array.of(kind))], [])
      assert.deepStrictEqual(yield* computed(at, chain({})), all.slice(1))
    }).pipe(Effect.provide(Store.layerMemory)),
  )
})
