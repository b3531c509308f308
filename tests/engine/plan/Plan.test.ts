import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { symlinkSync } from "node:fs"
import { join } from "node:path"
import * as Locate from "../../../src/engine/study/Locate.ts"
import * as Plan from "../../../src/engine/plan/Plan.ts"
import { StageFailure } from "../../../src/engine/Problem.ts"
import { type Changes, folder, ids, mistakes, plan } from "../Studies.ts"

const HEAD = "study: t\nstages:\n  a: { use: amount, value: 300 }\n"
const fails = (name: string, stages: string, expected: ReadonlyArray<string>, changes: Changes = {}) =>
  it.effect(name, () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* mistakes(`${HEAD}${stages}\n`, changes), expected)
    }),
  )

describe("references", () => {
  fails("to nothing", "  q: { use: judge, model: $aa, task: x }", [
    "study.yaml:4:27: no stage 'aa'; did you mean 'a'? known: a, q",
  ])
  fails("to the wrong kind", "  s: { use: judge, model: $a, task: x }\n  q: { use: judge, model: $s, task: x }", [
    "study.yaml:5:27: 'model' needs amount, but $s (judge) gives score",
  ])
  fails(
    "in a circle",
    "  p: { use: round, weights: none, of: $q }\n  q: { use: round, weights: none, of: $r }\n  r: { use: round, weights: none, of: $p }",
    ["study.yaml:6:39: stages refer to each other in a circle: p -> q -> r -> p"],
  )
  fails(
    "missing, of the wrong shape, not a reference",
    "  p: { use: judge, task: x }\n  q: { use: judge, model: [$a], task: x }\n  r: { use: judge, model: a, task: x }\n  s: { use: tabulate, scores: [] }\n  t: { use: tabulate, scores: [3] }\n  u: { use: tabulate, scores: [$p, $p] }",
    [
      "study.yaml:4:3: 'model' is missing: a $reference to a stage that gives amount",
      "study.yaml:5:27: 'model' takes one reference, not a list; to try several, put the list under matrix",
      "study.yaml:6:27: 'model' takes a $reference to a stage that gives amount, not the text 'a'; did you mean $a?",
      "study.yaml:7:31: 'scores' is an empty list; it needs at least one $reference",
      "study.yaml:8:32: 'scores' takes a $reference to a stage that gives score, not 3",
      "study.yaml:9:36: 'scores' has $p already; remove one",
    ],
  )
  fails("given to parameters", "  q: { use: round, of: $a, weights: { bits: $a }, shift: $a }", [
    "study.yaml:4:45: 'weights' is a parameter and takes a value, not a reference ($a)",
    "study.yaml:4:58: 'shift' is a parameter and takes a value, not a reference ($a)",
  ])
  it.effect("what a stage needs comes first, the rest stays in document order", () =>
    Effect.gen(function* () {
      const planned = yield* plan(
        "study: t\nstages:\n  t: { use: tabulate, scores: [$s, $r] }\n  z: { use: amount, value: 1 }\n  s: { use: judge, model: $a, task: x }\n  r: { use: judge, model: $z, task: x }\n  a: { use: amount, value: 1 }\n",
      )
      assert.deepStrictEqual(ids(planned), ["a", "s", "z", "r", "t"])
      const table = planned.stages.get("t")![0]!
      assert.deepStrictEqual(
        (table.inputs["scores"] as ReadonlyArray<Plan.Cell<never>>).map(({ id }) => id),
        ["s", "r"],
      )
    }),
  )
})

describe("stages and parameters", () => {
  fails(
    "everything wrong is reported at once, in order",
    "  q: { use: rond, of: $b }\n  p: { use: round, of: $a, weights: { bits: 3, grup: 2 }, shfit: 1, kv: nine, batch: x }\n  o: { use: round, of: $a }",
    [
      "study.yaml:4:13: no stage kind 'rond'; did you mean 'round'? known: amount, compare, dice, file, judge, round, tabulate",
      "study.yaml:5:45: 'weights.bits' must be 2 | 4 | 8, not 3",
      "study.yaml:5:48: unknown key 'grup'; did you mean 'group'? known: bits, group, method",
      "study.yaml:5:59: 'round' has no parameter 'shfit'; did you mean 'shift'? known: of, scale, batch, weights, kv, shift",
      `study.yaml:5:73: 'kv' must be "none" | object, not "nine"`,
      `study.yaml:5:86: 'batch' must be number, not "x"`,
      "study.yaml:6:3: 'weights' is missing",
    ],
  )
  fails(
    "an override, in the argument",
    "  q: { use: round, of: $a, weights: none }",
    [
      "--set:1:3: 'round' has no parameter 'shfit'; did you mean 'shift'? known: of, scale, batch, weights, kv, shift",
      "--set:2:18: 'weights.bits' must be 2 | 4 | 8, not 5",
    ],
    { set: ["q.shfit=1", "q.weights={bits: 5}"] },
  )
  it.effect("parameters are decoded for the stage and encoded for the key", () =>
    Effect.gen(function* () {
      const { cells } = yield* plan("study: t\nstages:\n  a: { use: amount, value: 3, limit: '12.50' }\n")
      assert.deepStrictEqual(cells[0]!.params, { value: 3, limit: 12.5 })
      assert.deepStrictEqual(cells[0]!.identity.params, { value: 3, limit: "12.5" })
    }),
  )
  it.effect("decoded parameters and hints, shared by the cells of a point", () =>
    Effect.gen(function* () {
      const { stages } = yield* plan(
        `${HEAD}  q: { use: round, of: $a, batch: 4, matrix: { weights: [{ bits: 4 }, none] } }\n  s: { use: judge, model: $q, task: x }\n`,
      )
      const [first] = stages.get("q")!
      assert.deepStrictEqual(first!.params, { weights: { bits: 4, method: "nearest" }, kv: "none", shift: 0 })
      assert.deepStrictEqual(first!.hints, { batch: 4 })
      const [one, two] = stages.get("s")!
      assert.strictEqual(one!.params, two!.params)
    }),
  )
})

const READS = `study: t\nstages:\n  f: { use: file, path: x.txt, reader: amount }\n`
const readFrom = (content: string) => plan(READS, { files: { "studies/x.txt": content } })

describe("files", () => {
  it.effect("are found, digested, and in the key", () =>
    Effect.gen(function* () {
      const [one, same, other] = [yield* readFrom("1"), yield* readFrom("1"), yield* readFrom("2")]
      const cell = one.cells[0]!
      assert.match(cell.sources["file"]!.path, /studies\/x\.txt$/)
      assert.deepStrictEqual(cell.identity.plugins, ["code of amount.ts"])
      assert.strictEqual(cell.staticKey, same.cells[0]!.staticKey)
      assert.notStrictEqual(cell.staticKey, other.cells[0]!.staticKey)
    }),
  )
  it.effect("are digested once for each point, and not for excluded ones", () =>
    Effect.gen(function* () {
      const digested: Array<string> = []
      const text =
        "study: t\nstages:\n  f: { use: file, matrix: { path: [x.txt, y.txt] }, exclude: [{ path: y.txt }] }\n  q: { use: file, path: x.txt }\n"
      yield* plan(text, {
        files: { "studies/x.txt": "", "studies/y.txt": "" },
        digested: (path) => digested.push(path.split("/").at(-1)!),
      })
      assert.deepStrictEqual(digested, ["x.txt", "x.txt"])
    }),
  )
  it.effect("a stage's problem is at its line, through the sweep", () =>
    Effect.gen(function* () {
      const errors = yield* mistakes("study: t\nstages:\n  f: { use: file, matrix: { path: [x.txt, y.txt] } }\n", {
        files: { "studies/x.txt": "" },
      })
      assert.match(errors[0]!, /^study\.yaml:3:43: 'y\.txt' does not exist \(looked for .*y\.txt\)$/)
    }),
  )
  it.effect("code that cannot be fingerprinted", () =>
    Effect.gen(function* () {
      const errors = yield* mistakes(HEAD, { fingerprint: () => Effect.fail(new StageFailure({ reason: "no code" })) })
      assert.deepStrictEqual(errors, ["study.yaml:3:13: no code"])
    }),
  )
  it.effect("where paths may lead", () =>
    Effect.gen(function* () {
      const root = yield* folder({ "s/in.txt": "", "p/b.txt": "", "out.txt": "", "s/sub/x": "" })
      symlinkSync(join(root, "out.txt"), join(root, "s/link"))
      symlinkSync(join(root, "s/in.txt"), join(root, "s/inner"))
      const { resolve } = Locate.make({ study: join(root, "s"), pipelines: join(root, "p") })
      const found = (source: string) =>
        Effect.map(resolve(source), (path) => path.slice(root.length + 1)).pipe(
          Effect.catch(({ reason }) => Effect.succeed(reason.replaceAll(root, ""))),
        )
      assert.strictEqual(yield* found("in.txt"), "s/in.txt")
      assert.strictEqual(yield* found("file:./in.txt"), "s/in.txt")
      assert.strictEqual(yield* found("dir:sub"), "s/sub")
      assert.strictEqual(yield* found("inner"), "s/in.txt")
      assert.strictEqual(yield* found("bundled:b.txt"), "p/b.txt")
      assert.strictEqual(yield* found(`${root}/out.txt`), "out.txt")
      assert.strictEqual(yield* found(`dir:${root}/s/sub`), "s/sub")
      assert.strictEqual(yield* found("file:"), "'file:' names no file")
      assert.strictEqual(yield* found("no.txt"), "'no.txt' does not exist (looked for /s/no.txt)")
      const hint = "move the file there, or write an absolute path"
      assert.strictEqual(yield* found("../out.txt"), `'../out.txt' leads out of /s; ${hint}`)
      assert.strictEqual(yield* found("bundled:../out.txt"), `'bundled:../out.txt' leads out of /p; ${hint}`)
      assert.strictEqual(yield* found("link"), "'link' is a symbolic link to /out.txt, outside of /s")
      assert.strictEqual(yield* found(`${root}/s/link`), "'/s/link' is a symbolic link to /out.txt, outside of /s")
      assert.strictEqual(
        yield* found(`${root}/s/../out.txt`),
        "'/s/../out.txt' has '..' in an absolute path; write it out",
      )
    }),
  )
})

describe("outlines", () => {
  it.effect("see their inputs' outlines", () =>
    Effect.gen(function* () {
      const { cells, outline } = yield* plan(
        `${HEAD}  q: { use: round, of: $a, matrix: { weights: [none, { bits: 4, group: 3 }] } }\n  s: { use: judge, model: $q, task: x }\n  t: { use: tabulate, scores: $s }\n`,
      )
      assert.deepStrictEqual(yield* outline(cells[1]!), { digits: 3 })
      assert.deepStrictEqual(yield* outline(cells.at(-1)!), { rows: 2 })
      assert.strictEqual(yield* outline(cells[0]!), yield* outline(cells[0]!))
    }),
  )
  it.effect("fail at the value that is wrong, for the cell and for what needs it", () =>
    Effect.gen(function* () {
      const { cells, outline } = yield* plan(
        `${HEAD}  q: { use: round, of: $a, matrix: { weights: [none, { bits: 4, group: 2 }] } }\n  s: { use: judge, model: $q, task: x }\n`,
      )
      for (const id of ["q[weights=w4]", "s[weights=w4]", "s[weights=w4]"]) {
        const errors = yield* Effect.flip(outline(cells.find((cell) => cell.id === id)!))
        assert.match(errors.message, /study\.yaml:4:72: 2 does not divide 3$/)
      }
      yield* outline(cells.find((cell) => cell.id === "s[weights=none]")!)
    }),
  )
})

it.effect("the time to plan, printed", () =>
  Effect.gen(function* () {
    for (const side of [7, 22, 70]) {
      const shifts = Array.from({ length: side }, (_, i) => i).join(", ")
      const tasks = Array.from({ length: 2 * side }, (_, i) => `t${i}`).join(", ")
      const text = `${HEAD}  q: { use: round, of: $a, weights: none, matrix: { shift: [${shifts}] } }\n  s: { use: judge, model: $q, matrix: { task: [${tasks}] } }\n  t: { use: tabulate, scores: $s }\n`
      const before = performance.now()
      const { cells } = yield* plan(text)
      const took = performance.now() - before
      process.stdout.write(`planned ${cells.length} cells in ${took.toFixed(0)} ms\n`)
    }
  }),
)
