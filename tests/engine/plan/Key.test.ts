import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Key from "../../../src/engine/plan/Key.ts"
import * as Plan from "../../../src/engine/plan/Plan.ts"
import { type Changes, plan } from "../Studies.ts"

/** Any JSON, with negative zero as zero. */
const plain = (value: Schema.Json): any =>
  Array.isArray(value)
    ? value.map(plain)
    : typeof value === "object" && value !== null
      ? Object.fromEntries(Object.entries(value).map(([key, it]) => [key, plain(it)]))
      : value === 0
        ? 0
        : value
const reversed = (value: Schema.Json): any =>
  Array.isArray(value)
    ? value.map(reversed)
    : typeof value === "object" && value !== null
      ? Object.fromEntries(
          Object.entries(value)
            .toReversed()
            .map(([key, it]) => [key, reversed(it)]),
        )
      : value

describe("canonical JSON", () => {
  it.effect.prop("reads back as what was written", [Schema.Json], ([value]) =>
    Effect.sync(() => assert.deepStrictEqual(JSON.parse(Key.canonical(value)), plain(value))),
  )
  it.effect.prop("does not depend on the order of keys", [Schema.Json], ([value]) =>
    Effect.sync(() => assert.strictEqual(Key.canonical(reversed(value)), Key.canonical(value))),
  )
  it("one spelling", () => {
    assert.strictEqual(
      Key.canonical({ b: -0, a: [1e3, "é", null, true], c: undefined }),
      '{"a":[1000,"é",null,true],"b":0}',
    )
    assert.throws(() => Key.canonical({ a: Number.NaN }), /NaN cannot be part of a key/)
    assert.throws(() => Key.canonical([Number.NEGATIVE_INFINITY]), /-Infinity cannot be part of a key/)
    assert.throws(() => Key.canonical([() => 1]), /a function cannot be part of a key/)
  })
})

const STUDY = `study: t
seed: 1
stages:
  a: { use: amount, value: 300 }
  d: { use: dice, sides: 6, of: $a }
  f: { use: file, path: x.txt, reader: round }
  q:
    use: round
    of: $a
    matrix:
      weights: [none, { bits: 4, group: 3 }]
  s: { use: judge, model: $q, task: x }
  r: { use: judge, model: $d, task: x }
  t: { use: tabulate, scores: [$s, $r] }
`
const FILES = { "studies/x.txt": "1" }
const keys = (text: string, changes: Changes = {}) =>
  Effect.map(plan(text, { files: FILES, ...changes }), ({ cells }) =>
    Object.fromEntries(cells.map(({ id, staticKey }) => [id, staticKey])),
  )

/** Edits that cannot change a result. `t` shows names of cells and is looked at on its own. */
const irrelevant: { readonly [name: string]: (text: string) => string } = {
  "a comment": (text) => `# a comment\n${text}`,
  "blank lines": (text) => text.replaceAll("\n", "\n\n"),
  "another study name": (text) => text.replace("study: t", "study: other\ndescription: more words"),
  "keys in another order": (text) => text.replace("use: judge, model: $q, task: x", "task: x, model: $q, use: judge"),
  "a default written out": (text) => text.replace("bits: 4, group: 3", "group: 3, method: nearest, bits: 4"),
  "another spelling of a number": (text) => text.replace("value: 300", "value: 0x12c"),
  quotes: (text) => text.replaceAll("task: x", "task: 'x'"),
  "a hint": (text) => text.replace("value: 300", "value: 300, jobs: 4"),
  "a value taken from a variable": (text) => `vars: { n: 300 }\n${text.replace("value: 300", "value: '${n}'")}`,
  "another label": (text) => text.replace("group: 3", "group: 3, name: w4"),
  "more stages": (text) => `${text}  z: { use: amount, value: 1 }\n`,
  "more parallel cells": (text) => `${text}  y: { use: round, of: $a, matrix: { shift: [1, 2] }, weights: none }\n`,
}

const spelled = (task: string) => keys(STUDY.replaceAll("task: x", `task: ${task}`))

describe("what is not in a key", () => {
  for (const [name, edit] of Object.entries(irrelevant)) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const [before, after] = [yield* keys(STUDY), yield* keys(edit(STUDY))]
        for (const id of Object.keys(before)) assert.strictEqual(after[id], before[id], id)
      }),
    )
  }
  const names = Object.keys(irrelevant) as [string, ...Array<string>]
  it.effect.prop(
    "any of them together",
    [Schema.Array(Schema.Literals(names))],
    ([edits]) =>
      Effect.gen(function* () {
        const once = [...new Set(edits)]
        const [before, after] = [
          yield* keys(STUDY),
          yield* keys(once.reduce((text, name) => irrelevant[name]!(text), STUDY)),
        ]
        for (const id of Object.keys(before)) assert.strictEqual(after[id], before[id], `${id} after ${once}`)
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 30 } },
  )
  it.effect("a stage's name, but for what shows it", () =>
    Effect.gen(function* () {
      const renamed = STUDY.replace("  q:", "  quant:").replace("$q", "$quant")
      const [before, after] = [yield* keys(STUDY), yield* keys(renamed)]
      assert.strictEqual(after["quant[weights=w4]"], before["q[weights=w4]"])
      assert.strictEqual(after["s[weights=w4]"], before["s[weights=w4]"])
      assert.strictEqual(after["t"], before["t"])
      const shown = yield* keys(STUDY.replace("  s:", "  score:").replace("$s", "$score"))
      assert.strictEqual(shown["score[weights=w4]"], before["s[weights=w4]"])
      assert.notStrictEqual(shown["t"], before["t"])
    }),
  )
  it.effect("the spelling of a character", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* spelled("e\u0301"), yield* spelled("\u00e9"))
    }),
  )
})

/** Edits that can change results, and exactly the cells whose keys they change. */
const relevant: ReadonlyArray<
  readonly [name: string, edit: (text: string) => string, changed: string, changes?: Changes]
> = [
  [
    "a parameter at the root",
    (text) => text.replace("300", "301"),
    "a d q[weights=none] q[weights=w4] s[weights=none] s[weights=w4] r t",
  ],
  [
    "a unit added",
    (text) => text.replace("300", "300, unit: m"),
    "a d q[weights=none] q[weights=w4] s[weights=none] s[weights=w4] r t",
  ],
  ["one value of an axis", (text) => text.replace("group: 3", "group: 1"), "q[weights=w4] s[weights=w4] t"],
  ["a parameter of a leaf", (text) => text.replace("$d, task: x", "$d, task: y"), "r t"],
  ["an input", (text) => text.replace("$d, task", "$a, task"), "r t"],
  ["an optional input", (text) => text.replace(", of: $a }", " }"), "d r t"],
  ["the order of gathered cells", (text) => text.replace("[$s, $r]", "[$r, $s]"), "t"],
  ["a cell more to gather", (text) => text.replace("[none,", "[none, { bits: 2 },"), "t"],
  ["a label that is shown", (text) => text.replace("group: 3", "group: 3, name: small"), "t"],
  ["the seed, for what draws at random", (text) => text.replace("seed: 1", "seed: 2"), "d r t"],
  ["a file", (text) => text, "f", { files: { "studies/x.txt": "2" } }],
  ["a stage's code", (text) => text, "r s[weights=none] s[weights=w4] t", code("judge")],
  [
    "a plug-in's code",
    (text) => text,
    "f q[weights=none] q[weights=w4] s[weights=none] s[weights=w4] t",
    code("round"),
  ],
]

function code(stage: string): Changes {
  return {
    fingerprint: (module) =>
      Effect.succeed(module.endsWith(`${stage}.ts`) ? "edited" : `code of ${module.split("/").at(-1)}`),
  }
}

describe("what is in a key", () => {
  for (const [name, edit, changed, changes] of relevant) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const [before, after] = [yield* keys(STUDY), yield* keys(edit(STUDY), changes)]
        const different = Object.keys(before).filter(
          (id) => (after[id] ?? after[id.replace("w4", "small")]) !== before[id],
        )
        assert.deepStrictEqual(different.toSorted(), changed.split(" ").toSorted())
      }),
    )
  }
})

const digest = (id: string) => `digest of ${id}`
const digestsOf = (cell: Plan.Cell<never>, of = digest): Plan.InputDigests =>
  Object.fromEntries(
    Object.entries(cell.inputs).map(([slot, input]) => [
      slot,
      input === undefined ? undefined : "length" in input ? input.map(({ id }) => of(id)) : of(input.id),
    ]),
  )

const seedOf = (text: string, stage: string, of = digest) =>
  Effect.map(plan(text, { files: FILES }), ({ stages }) => {
    const cell = stages.get(stage)![0]!
    return Plan.seed(cell, digestsOf(cell, of))
  })

describe("content keys", () => {
  it.effect("depend on the inputs' bytes and not on how they came about", () =>
    Effect.gen(function* () {
      const [one, other] = [
        yield* plan(STUDY, { files: FILES }),
        yield* plan(STUDY.replace("300", "301"), { files: FILES }),
      ]
      one.cells.forEach((cell, i) => {
        const same = other.cells[i]!
        assert.strictEqual(
          Plan.contentKey(cell, digestsOf(cell)) === Plan.contentKey(same, digestsOf(same)),
          cell.stage !== "a",
        )
        const edited = Plan.contentKey(
          cell,
          digestsOf(cell, (id) => `${id} edited`),
        )
        assert.strictEqual(edited === Plan.contentKey(cell, digestsOf(cell)), ["a", "f"].includes(cell.stage))
      })
    }),
  )
  it.effect("pre-images hash to the keys", () =>
    Effect.gen(function* () {
      const { cells } = yield* plan(STUDY, { files: FILES })
      for (const cell of cells) {
        assert.strictEqual(Key.sha256(Key.canonical(Plan.staticPreimage(cell))), cell.staticKey)
        const digests = digestsOf(cell)
        assert.strictEqual(
          Key.sha256(Key.canonical(Plan.contentPreimage(cell, digests))),
          Plan.contentKey(cell, digests),
        )
      }
      const pre = Plan.staticPreimage(cells.at(-1)!) as any
      assert.deepStrictEqual(
        [pre[0], pre[1].stage, pre[2].scores[1].slice(0, 2)],
        ["static/1", "tabulate", ["s[weights=w4]", [["weights", "w4"]]]],
      )
    }),
  )
  it.effect("seeds: the study's, the cell's own, and none without asking", () =>
    Effect.gen(function* () {
      const seed = yield* seedOf(STUDY, "d")
      assert.isTrue(seed > 0n && seed < 2n ** 64n)
      assert.strictEqual(yield* seedOf(STUDY, "q"), 0n)
      assert.strictEqual(yield* seedOf(STUDY.replace("  d:", "  z: { use: dice, sides: 2 }\n  d:"), "d"), seed)
      assert.notStrictEqual(yield* seedOf(STUDY.replace("seed: 1", "seed: 2"), "d"), seed)
      assert.notStrictEqual(yield* seedOf(STUDY.replace("sides: 6", "sides: 7"), "d"), seed)
      assert.notStrictEqual(yield* seedOf(STUDY, "d", () => "other bytes"), seed)
    }),
  )
})
