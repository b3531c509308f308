import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { ids, mistakes, plan } from "../Studies.ts"

const HEAD = "study: t\nstages:\n  a: { use: amount, value: 3 }\n"
/** A sweep over `round`; its fields follow on line 4. */
const sweep = (fields: string, more = "") => `${HEAD}  q: { use: round, of: $a, ${fields} }\n${more}`

const expands = (name: string, text: string, expected: ReadonlyArray<string>) =>
  it.effect(name, () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(ids(yield* plan(text)).slice(1), expected)
    }),
  )
const fails = (name: string, text: string, expected: ReadonlyArray<string>) =>
  it.effect(name, () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* mistakes(text), expected)
    }),
  )

describe("a stage's own sweep", () => {
  expands("no axes, no brackets", sweep("weights: none"), ["q"])
  expands("matrix: the first axis varies slowest", sweep("matrix: { weights: [none, { bits: 4 }], shift: [0, 1] }"), [
    "q[weights=none, shift=0]",
    "q[weights=none, shift=1]",
    "q[weights=w4, shift=0]",
    "q[weights=w4, shift=1]",
  ])
  expands(
    "labels: the stage's own, mappings as k=v, `name` over all",
    sweep("weights: none, matrix: { kv: [none, { bits: 4, group: 2 }, { bits: 8, name: wide }] }"),
    ["q[kv=none]", "q[kv=bits=4,group=2]", "q[kv=wide]"],
  )
  expands(
    "zip runs in parallel and is crossed with matrix",
    sweep("matrix: { weights: [none, { bits: 2 }] }, zip: { shift: [1, 1, 2], kv: [none, { bits: 4 }, none] }"),
    [
      "q[weights=none, shift=1, kv=none]",
      "q[weights=none, shift=1, kv=bits=4]",
      "q[weights=none, shift=2, kv=none]",
      "q[weights=w2, shift=1, kv=none]",
      "q[weights=w2, shift=1, kv=bits=4]",
      "q[weights=w2, shift=2, kv=none]",
    ],
  )
  expands(
    "include adds points, in axis order; other axes are absent",
    sweep(
      "shift: 5, matrix: { weights: [none], shift: [1] }, include: [{ shift: 2, weights: { bits: 8 } }, { weights: { bits: 2 } }]",
    ),
    ["q[weights=none, shift=1]", "q[weights=w8, shift=2]", "q[weights=w2]"],
  )
  expands("include alone is the sweep", sweep("include: [{ weights: none }, { weights: { bits: 2 } }]"), [
    "q[weights=none]",
    "q[weights=w2]",
  ])
  expands(
    "exclude by label or by value, not of included points",
    sweep(
      "matrix: { weights: [none, { bits: 4 }, { bits: 8 }], kv: [none, { bits: 4 }] }, exclude: [{ weights: w4 }, { weights: none, kv: { bits: 4 } }], include: [{ weights: { bits: 4 }, kv: none }]",
    ),
    ["q[weights=none, kv=none]", "q[weights=w8, kv=none]", "q[weights=w8, kv=bits=4]", "q[weights=w4, kv=none]"],
  )
  expands(
    "an axis of references",
    `${HEAD}  b: { use: amount, value: 4 }\n  q: { use: round, weights: none, matrix: { of: [$a, $b], scale: [none, $b] } }\n`,
    ["b", "q[of=a, scale=none]", "q[of=a, scale=b]", "q[of=b, scale=none]", "q[of=b, scale=b]"],
  )
  expands(
    "a value keeps its name where it is included again, and is excluded by value",
    sweep(
      "matrix: { weights: [none, { bits: 8 }], kv: [{ bits: 4, name: small }] }, exclude: [{ weights: { bits: 8 } }], include: [{ weights: { bits: 2 }, kv: { bits: 4 } }]",
    ),
    ["q[weights=none, kv=small]", "q[weights=w2, kv=small]"],
  )
  it.effect("what an included point does not mention is the plain parameter", () =>
    Effect.gen(function* () {
      const { stages } = yield* plan(
        sweep("shift: 5, matrix: { weights: [none], shift: [1] }, include: [{ weights: { bits: 2 } }]"),
      )
      assert.deepStrictEqual(
        stages.get("q")!.map(({ params }) => params["shift"]),
        [1, 5],
      )
    }),
  )
})

describe("mistakes in a sweep", () => {
  fails("an axis that is nothing of the stage", sweep("weights: none, matrix: { shif: [1] }"), [
    "study.yaml:4:53: 'round' has no parameter 'shif'; did you mean 'shift'? known: of, scale, batch, weights, kv, shift",
  ])
  fails("an axis that is a hint", sweep("weights: none, matrix: { batch: [1, 2] }"), [
    "study.yaml:4:53: 'batch' is a hint: it cannot change a result, so there is nothing to sweep over",
  ])
  fails("unequal zip", sweep("zip: { weights: [none, { bits: 2 }], shift: [1] }"), [
    "study.yaml:4:65: zipped axes must be equally long: 'shift' has 1 values and 'weights' has 2",
  ])
  fails("an axis in matrix and zip", sweep("weights: none, matrix: { shift: [1] }, zip: { shift: [2] }"), [
    "study.yaml:4:74: axis 'shift' is in matrix already; keep one",
  ])
  fails("a value twice", sweep("weights: none, matrix: { shift: [1, 2, 1] }"), [
    "study.yaml:4:67: axis 'shift' lists '1' twice; remove one",
  ])
  fails("equal labels", sweep("matrix: { weights: [{ bits: 4 }, { bits: 4, group: 3 }] }"), [
    "study.yaml:4:61: two values of axis 'weights' are labelled 'w4'; tell them apart with 'name: …'",
  ])
  fails("a label that is no text", sweep("weights: none, matrix: { kv: [{ bits: 4, name: [x] }] }"), [
    "study.yaml:4:75: 'name' labels this value and must be text, not a list",
  ])
  fails("an included point that is there", sweep("matrix: { weights: [none] }, include: [{ weights: none }]"), [
    "study.yaml:4:67: two cells are called q[weights=none]; remove one, or tell the values apart with 'name: …'",
  ])
  fails("a plain value that no cell uses", sweep("weights: none, matrix: { weights: [{ bits: 4 }] }"), [
    "study.yaml:4:28: 'weights' is an axis of the sweep, so no cell would use this value; remove one of the two",
  ])
  fails(
    "exclude: unknown axis, unknown value, no such cell",
    sweep(
      "matrix: { weights: [none, { bits: 4 }], shift: [0, 1] }, exclude: [{ kv: none }, { weights: w5 }, { weights: w4, shift: 0 }, { weights: w4, shift: 0 }, { weights: none, shift: 0 }, { weights: none, shift: 1 }]",
    ),
    [
      "study.yaml:4:97: no axis 'kv' here; known: weights, shift",
      "study.yaml:4:120: axis 'weights' has no value 'w5'; did you mean 'w4'? known: none, w4",
    ],
  )
  fails(
    "exclude: values that never meet",
    sweep("weights: none, zip: { shift: [0, 1], kv: [none, { bits: 4 }] }, exclude: [{ shift: 0, kv: { bits: 4 } }]"),
    ["study.yaml:4:102: excludes nothing: no cell has all of these values"],
  )
  fails(
    "exclude: everything",
    sweep("weights: none, matrix: { shift: [0, 1] }, exclude: [{ shift: 0 }, { shift: 1 }]"),
    ["study.yaml:4:70: every cell of 'q' is excluded"],
  )
  fails(
    "more points than memory",
    sweep(
      `matrix: { weights: [none], shift: [${range(600)}], kv: [${range(600, (i) => `{ bits: 4, group: ${i + 1} }`)}] }`,
    ),
    [`study.yaml:4:${70 + range(600).length}: the sweep has more than 250000 points; sweep over less`],
  )
  fails(
    "mistakes in a value of an axis, at the value",
    sweep("matrix: { weights: [none, { bits: 5 }], kv: [{ bit: 4, bits: 4 }] }"),
    [
      "study.yaml:4:62: 'weights.bits' must be 2 | 4 | 8, not 5",
      "study.yaml:4:75: unknown key 'bit'; did you mean 'bits'? known: bits, group, method",
    ],
  )
})

function range(n: number, entry: (i: number) => string = String): string {
  return Array.from({ length: n }, (_, i) => entry(i)).join(", ")
}

describe("fan-out", () => {
  const swept = sweep("matrix: { weights: [none, { bits: 4 }] }")
  expands(
    "a stage fans out with what it refers to",
    `${swept}  s: { use: judge, model: $q, matrix: { task: [x, y] } }\n  t: { use: tabulate, scores: $s }\n`,
    [
      "q[weights=none]",
      "q[weights=w4]",
      "s[weights=none, task=x]",
      "s[weights=none, task=y]",
      "s[weights=w4, task=x]",
      "s[weights=w4, task=y]",
      "t",
    ],
  )
  expands(
    "a diamond is joined on the common axes",
    `${swept}  l: { use: judge, model: $q, task: x }\n  r: { use: judge, model: $q, matrix: { task: [x, y] } }\n  c: { use: compare, left: $l, right: $r }\n`,
    [
      "q[weights=none]",
      "q[weights=w4]",
      "l[weights=none]",
      "l[weights=w4]",
      "r[weights=none, task=x]",
      "r[weights=none, task=y]",
      "r[weights=w4, task=x]",
      "r[weights=w4, task=y]",
      "c[weights=none, task=x]",
      "c[weights=none, task=y]",
      "c[weights=w4, task=x]",
      "c[weights=w4, task=y]",
    ],
  )
  it.effect("the joined cells are the ones of the same origin", () =>
    Effect.gen(function* () {
      const { stages } = yield* plan(
        `${swept}  l: { use: judge, model: $q, task: x }\n  c: { use: compare, left: $l, right: $l }\n`,
      )
      for (const { inputs, coordinates } of stages.get("c")!) {
        assert.strictEqual(inputs["left"], inputs["right"])
        assert.deepStrictEqual((inputs["left"] as any).coordinates, coordinates)
      }
    }),
  )
  expands(
    "unrelated sweeps are crossed, equal axis names are told apart",
    `${swept}  p: { use: round, of: $a, matrix: { weights: [none, { bits: 8 }] } }\n  l: { use: judge, model: $q, task: x }\n  r: { use: judge, model: $p, task: x }\n  c: { use: compare, left: $l, right: $r, }\n`,
    [
      "q[q.weights=none]",
      "q[q.weights=w4]",
      "p[p.weights=none]",
      "p[p.weights=w8]",
      "l[q.weights=none]",
      "l[q.weights=w4]",
      "r[p.weights=none]",
      "r[p.weights=w8]",
      "c[q.weights=none, p.weights=none]",
      "c[q.weights=none, p.weights=w8]",
      "c[q.weights=w4, p.weights=none]",
      "c[q.weights=w4, p.weights=w8]",
    ],
  )
  expands(
    "a point without an axis joins only itself",
    `${sweep("kv: none, matrix: { weights: [none], kv: [{ bits: 4 }] }, include: [{ weights: none, shift: 1 }]")}  l: { use: judge, model: $q, task: x }\n  c: { use: compare, left: $l, right: $l }\n`,
    [
      "q[weights=none, kv=bits=4]",
      "q[weights=none, shift=1]",
      "l[weights=none, kv=bits=4]",
      "l[weights=none, shift=1]",
      "c[weights=none, kv=bits=4]",
      "c[weights=none, shift=1]",
    ],
  )
  expands(
    "a cell from outside a sweep meets every point of it",
    `${swept}  s: { use: judge, task: x, matrix: { model: [$a, $q] } }\n  l: { use: judge, model: $q, task: y }\n  c: { use: compare, left: $s, right: $l }\n`,
    [
      "q[weights=none]",
      "q[weights=w4]",
      "s[model=a]",
      "s[weights=none, model=q]",
      "s[weights=w4, model=q]",
      "l[weights=none]",
      "l[weights=w4]",
      "c[model=a, weights=none]",
      "c[model=a, weights=w4]",
      "c[weights=none, model=q]",
      "c[weights=w4, model=q]",
    ],
  )
  expands(
    "exclude may name inherited axes",
    `${swept}  s: { use: judge, model: $q, matrix: { task: [x, y] }, exclude: [{ weights: none, task: y }] }\n`,
    ["q[weights=none]", "q[weights=w4]", "s[weights=none, task=x]", "s[weights=w4, task=x]", "s[weights=w4, task=y]"],
  )
  fails(
    "references without a common point",
    `${swept}  l: { use: judge, model: $q, task: x, exclude: [{ weights: none }] }\n  r: { use: judge, model: $q, task: x, exclude: [{ weights: w4 }] }\n  c: { use: compare, left: $l, right: $r }\n`,
    ["study.yaml:7:3: stage 'c' has no cells: what it refers to has no point in common"],
  )
  fails(
    "labels that make two cells look alike",
    sweep(
      'weights: none, matrix: { kv: [{ bits: 4, name: "x, shift=1" }], shift: [2] }, include: [{ kv: { bits: 2, name: x }, shift: 1 }, { kv: { bits: 4, name: "x, shift=1" } }]',
    ),
    ["study.yaml:4:156: two cells are called q[kv=x, shift=1]; remove one, or tell the values apart with 'name: …'"],
  )
})
