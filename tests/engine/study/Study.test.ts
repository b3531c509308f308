import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { symlinkSync } from "node:fs"
import { join } from "node:path"
import * as Study from "../../../src/engine/study/Study.ts"
import { folder, study } from "../Studies.ts"

/** A study of one stage, whose fields follow on line 3. */
const one = (fields: string) => `study: t\nstages:\n  a: { use: x, ${fields} }\n`
const fails = (
  name: string,
  text: string,
  expected: ReadonlyArray<string>,
  set: ReadonlyArray<string> = [],
  files = {},
) =>
  it.effect(name, () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* Effect.flip(study(text, set, files)), expected)
    }),
  )
const fieldsOf = (read: Study.Study, stage = "a") => read.stages.get(stage)!.fields

describe("syntax", () => {
  fails("tab", "study: t\nstages:\n\ta: { use: x }\n", ["study.yaml:3:1: a tab cannot indent YAML; use spaces"])
  fails("duplicate key", one("b: 1, b: 2"), ["study.yaml:3:22: 'b' is already set on line 3; keep one of them"])
  fails("duplicate stage", "study: t\nstages:\n  a: { use: x }\n  a: { use: y }\n", [
    "study.yaml:4:3: 'a' is already set on line 3; keep one of them",
  ])
  fails("unclosed bracket", one("b: [1, 2").replace(" }", ""), [
    "study.yaml:4:1: not YAML: flow sequence in block collection must be sufficiently indented and end with a ]",
  ])
  fails("colon in a plain value", "study: t\ndescription: a: b\nstages: {}\n", [
    "study.yaml:2:14: a value cannot contain ': ' here; put it in quotes, or start a new line with the right indent",
  ])
  fails("tag", one("b: !!js/function 'x'"), [
    "study.yaml:3:19: tags are not part of the study language (nothing in a study is executed); remove it",
  ])
  fails("second document", "study: t\n---\nstages: {}\n", [
    "study.yaml:2:1: a study file holds one document; remove this and what follows",
  ])
  fails("list as key", one("[b]: 1"), [
    "study.yaml:3:16: a key must be a plain word; lists, mappings, tags and aliases cannot be keys",
  ])
  fails("infinity and inexact numbers", one("b: .inf, c: 12345678901234567890"), [
    "study.yaml:3:19: a number must be finite; write text in quotes",
    "study.yaml:3:28: 12345678901234567890 is too large to be exact; write it in quotes",
  ])
  fails("prototype", one("__proto__: {}"), ["study.yaml:3:16: '__proto__' cannot be a key"])
  fails("unknown anchor", one("b: &near 1, c: *neer"), [
    "study.yaml:3:31: no anchor &neer before this line; did you mean 'near'? known: near",
  ])
  fails("anchor inside itself", one("b: &x [*x]"), ["study.yaml:3:23: *x stands inside &x itself"])
  fails(
    "alias bomb",
    `study: t\nvars:\n  a0: &a0 [x]\n${bomb((i) => `  a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(10)}]\n`)}`,
    ["study.yaml:9:11: aliases and variables expand to more than 250000 values here; repeat less"],
  )
  fails(
    "variable bomb",
    `${one("b: '${a6}'")}vars:\n  a0: [x]\n${bomb((i) => `  a${i + 1}: [${`"\${a${i}}",`.repeat(10)}]\n`)}`,
    ["study.yaml:11:7: aliases and variables expand to more than 250000 values here; repeat less"],
  )
  fails(
    "text bomb",
    `${one("b: '${a6}'")}vars:\n  a0: xxxxxxxxxx\n${bomb((i) => `  a${i + 1}: "${`\${a${i}}`.repeat(10)}"\n`)}`,
    ["study.yaml:10:7: variables expand to more than 100000 characters here; repeat less"],
  )
  fails("too deep", one(`b: ${"[".repeat(80)}${"]".repeat(80)}`), [
    "study.yaml:3:34: nested more than 64 levels deep; flatten it",
  ])
})

function bomb(line: (i: number) => string): string {
  return [0, 1, 2, 3, 4, 5].map(line).join("")
}

describe("top level", () => {
  fails("not a mapping", "- a\n", ["study.yaml:1:1: a study is a mapping with 'study' and 'stages', not a list"])
  fails("empty file", "", ["study.yaml:1:1: a study is a mapping with 'study' and 'stages', not null"])
  fails("unknown key", "study: t\nstage: {}\nstages: { a: { use: x } }\n", [
    "study.yaml:2:1: unknown key 'stage'; did you mean 'stages'? known: study, seed, description, vars, include, stages",
  ])
  fails("no name", "stages: { a: { use: x } }\n", ["study.yaml:1:1: the study has no name; add 'study: <name>'"])
  fails("no stages", "study: t\n", ["study.yaml:1:1: the study has no stages; add 'stages: { name: { use: … } }'"])
  fails("seed", "study: t\nseed: many\nstages: { a: { use: x } }\n", [
    "study.yaml:2:7: 'seed' must be a whole number, not the text 'many'",
  ])
  fails("description", "study: t\ndescription: [1]\nstages: { a: { use: x } }\n", [
    "study.yaml:2:14: 'description' must be text, not a list",
  ])
  fails("stage names", "study: t\nstages: { 1a: { use: x }, vars: { use: x } }\n", [
    "study.yaml:2:11: '1a' cannot name a stage; use letters, digits, '_' and '-', a letter first",
    "study.yaml:2:27: 'vars' cannot name a stage; use letters, digits, '_' and '-', a letter first",
  ])
  fails("stage without use", "study: t\nstages:\n  a: { b: 1 }\n  c: load\n  d: { use: [x] }\n", [
    "study.yaml:3:3: stage 'a' has no 'use'; add 'use: <stage>'",
    "study.yaml:4:6: stage 'c' must be a mapping such as { use: … }, not the text 'load'",
    "study.yaml:5:13: 'use' must name a stage, not a list",
  ])
  fails(
    "shapes of a sweep",
    `${one("matrix: [1], zip: { b: 2, c: [] }, include: { b: 1 }, exclude: [1, {}]")}  b: { use: x, matrix: {} }\n`,
    [
      "study.yaml:3:24: 'matrix' must be a mapping of axes to lists, not a list",
      "study.yaml:3:39: axis 'b' must be a list of values, not 2",
      "study.yaml:3:45: axis 'c' is empty; give it a value, or remove it",
      "study.yaml:3:60: 'include' must be a list of mappings, not a mapping",
      "study.yaml:3:80: an entry of 'exclude' must map axes to values, not 1",
      "study.yaml:3:83: an entry of 'exclude' must map axes to values, not be empty",
      "study.yaml:4:24: 'matrix' is empty; name an axis, or remove it",
    ],
  )
  it.effect("a missing file", () =>
    Effect.gen(function* () {
      const root = yield* folder({})
      const errors = yield* Effect.flip(Study.load(join(root, "no.yaml"), { pipelines: root }))
      assert.match(errors.message, /no\.yaml:1:1: cannot read .*no\.yaml: ENOENT/)
    }),
  )
})

describe("values", () => {
  it.effect("what it reads", () =>
    Effect.gen(function* () {
      const read = yield* study(
        `study: whole\nseed: 7\ndescription: d\nvars: { m: { k: [1] }, n: 4, s: "\${n}", r: $a }\nstages:\n  z: { use: y }\n` +
          `  a: { use: x, one: "\${m}", two: "\${ n }", three: "w\${n}-\${s}", four: $$b, five: "$\${n}", six: "$5", seven: "\${r}", eight: $b }\n`,
      )
      assert.deepStrictEqual([read.name, read.seed, read.description], ["whole", 7, "d"])
      assert.deepStrictEqual([...read.stages.keys()], ["z", "a"])
      const { seven, eight, ...rest } = fieldsOf(read) as any
      assert.deepStrictEqual(rest, { one: { k: [1] }, two: 4, three: "w4-4", four: "$b", five: "${n}", six: "$5" })
      assert.deepStrictEqual([seven.stage, eight.stage], ["a", "b"])
    }),
  )
  it.effect("merge keys and aliases, own entries first", () =>
    Effect.gen(function* () {
      const read = yield* study(
        `study: t\nstages:\n  b: &b { use: x, k: 1, l: &l [1, 2] }\n  a: { <<: *b, k: 2, m: *l }\n  c: { <<: [{ k: 3 }, *b] }\n`,
      )
      assert.deepStrictEqual(fieldsOf(read), { k: 2, m: [1, 2], l: [1, 2] } as any)
      assert.deepStrictEqual(fieldsOf(read, "c"), { k: 3, l: [1, 2] } as any)
    }),
  )
  fails("a merge of no mapping", `${one("<<: 3")}`, ["study.yaml:3:20: '<<' merges mappings, but this is 3"])
  fails("unknown variable", `${one('b: "${bitz}"')}vars: { bits: 4 }\n`, [
    "study.yaml:3:19: no variable 'bitz' under vars; did you mean 'bits'? known: bits",
  ])
  fails("variables in a circle", `${one('b: "${p}"')}vars: { p: "\${q}", q: "x\${p}" }\n`, [
    "study.yaml:4:23: variables go in a circle: p -> q -> p",
  ])
  fails("a list inside text", `${one('b: "x${p}"')}vars: { p: [1] }\n`, [
    "study.yaml:3:19: 'p' is a list and cannot stand inside text; use ${p} alone",
  ])
  fails("a variable without quotes in a flow mapping", one("b: ${v}"), [
    "study.yaml:3:20: not YAML: unexpected flow-map-start at node end; inside { } and [ ], write ${variables} in quotes",
  ])
  fails("an unclosed variable", one('b: "x${p"'), [
    "study.yaml:3:19: '${' without '}'; write $${ for the plain characters",
  ])
})

describe("include", () => {
  const stages = "stages:\n  b: { use: x, k: 1 }\n  c: { use: y }\n"
  it.effect("included stages and variables come first and are replaced whole", () =>
    Effect.gen(function* () {
      const read = yield* study(
        "study: t\ninclude: [parts/base.yaml, 'bundled:more.yaml']\nvars: { v: 2 }\nstages:\n  a: { use: z }\n  c: { use: w, v: '${v}' }\n",
        [],
        {
          "studies/parts/base.yaml": `vars: { v: 1, u: 1 }\n${stages}  d: { use: x, v: '\${v}', u: '\${u}' }\n`,
          "pipelines/more.yaml": "study: other\nstages: { e: { use: x, bad: 1 } }\n",
        },
      )
      assert.deepStrictEqual([...read.stages.keys()], ["b", "c", "d", "e", "a"])
      assert.deepStrictEqual(fieldsOf(read, "c"), { v: 2 })
      assert.deepStrictEqual(fieldsOf(read, "d"), { v: 2, u: 1 })
      const at = (stage: string, path: Study.Study["files"]) => {
        const { file, line, column } = read.at(stage, path, "key")
        return `${file.split("/").slice(-2).join("/")}:${line}:${column}`
      }
      assert.strictEqual(at("d", ["u"]), "parts/base.yaml:5:27")
      assert.strictEqual(at("e", ["bad"]), "pipelines/more.yaml:2:24")
      assert.strictEqual(read.files.length, 3)
    }),
  )
  fails(
    "circle",
    "study: t\ninclude: b.yaml\n",
    ["b.yaml:1:10: files include each other in a circle: study.yaml -> b.yaml -> study.yaml"],
    [],
    {
      "studies/b.yaml": `include: study.yaml\n${stages}`,
    },
  )
  fails("a missing file, an absolute one", `study: t\ninclude: [y.yaml, /etc/passwd]\n${stages}`, [
    "study.yaml:2:11: 'y.yaml' does not exist (looked for y.yaml)",
    "study.yaml:2:19: 'include' takes paths relative to this file, or bundled:<file>, not the text '/etc/passwd'",
  ])
  fails(
    "two files that disagree",
    "study: t\ninclude: [p.yaml, q.yaml]\n",
    [
      "q.yaml:2:3: 'b' is also defined in p.yaml:2; define it in the including file",
      "q.yaml:3:3: 'c' is also defined in p.yaml:3; define it in the including file",
    ],
    [],
    { "studies/p.yaml": stages, "studies/q.yaml": stages },
  )
  it.effect("paths and symbolic links out of the folder", () =>
    Effect.gen(function* () {
      const root = yield* folder({
        "s/study.yaml": "study: t\ninclude: [../secret.yaml, l.yaml]\n",
        "secret.yaml": stages,
      })
      symlinkSync(join(root, "secret.yaml"), join(root, "s/l.yaml"))
      const errors = yield* Effect.flip(Study.load(join(root, "s/study.yaml"), { pipelines: join(root, "p") }))
      const folders = `${root}/s and ${root}/p`
      assert.deepStrictEqual(
        errors.errors.map(({ column, reason }) => [column, reason]),
        [
          [11, `'../secret.yaml' leads out of ${folders}; move the file there, or write an absolute path`],
          [27, `'l.yaml' is a symbolic link to ${root}/secret.yaml, outside of ${folders}`],
        ],
      )
    }),
  )
  fails(
    "mistakes in included files are at their own lines",
    "study: t\ninclude: p.yaml\nstages: { a: { use: x } }\n",
    ["p.yaml:2:3: stage 'b' has no 'use'; add 'use: <stage>'"],
    [],
    { "studies/p.yaml": "stages:\n  b: {}\n" },
  )
})

describe("--set", () => {
  it.effect("replaces, adds, reaches into lists and variables, and is remembered", () =>
    Effect.gen(function* () {
      const set = ["a.k={ bits: 8 }", "a.m.x.y=[1, '${v}']", "a.l.1=z", "vars.v=3", "seed=9", "a.r=$b"]
      const read = yield* study(`${one("k: 1, l: [p, q], n: '${v}'")}vars: { v: 1 }\n`, set)
      const { r, ...rest } = fieldsOf(read) as any
      assert.deepStrictEqual(rest, { k: { bits: 8 }, l: ["p", "z"], m: { x: { y: [1, 3] } }, n: 3 })
      assert.strictEqual(r.stage, "b")
      assert.strictEqual(read.seed, 9)
      assert.deepStrictEqual(read.overrides, set)
      assert.deepStrictEqual(read.at("a", ["k", "bits"]), { file: "--set", line: 1, column: 13 })
      assert.deepStrictEqual(read.at("a", ["m"], "key"), { file: "--set", line: 2, column: 3 })
      assert.strictEqual(read.at("a", ["l", 0]).line, 3)
    }),
  )
  fails(
    "what cannot be set",
    `${one("k: 1, l: [p]")}`,
    [
      "--set:1:1: 'a.k' is not of the form stage.parameter=value",
      "--set:2:1: no stage 'aa'; did you mean 'a'? known: a",
      "--set:3:1: 'a' is a stage; say which parameter: a.<parameter>=value",
      "--set:4:5: 'a.k' is 1, which has no 'x'",
      "--set:5:5: '1' is not an entry of this list; entries are 0 to 0",
      "--set:6:1: no variable 'v' under vars; there are none",
      "--set:7:6: not YAML: flow sequence must end with a ]",
    ],
    ["a.k", "aa.k=1", "a=1", "a.k.x=1", "a.l.1=q", "vars.v=1", "a.k=["],
  )
})

it.effect("places of keys and values", () =>
  Effect.gen(function* () {
    const read = yield* study(
      "study: t\nstages:\n  a:\n    use: x\n    matrix:\n      w: [none, { bits: 4 }]\n    k: &k\n      deep: 1\n    j: *k\n",
    )
    const at = (path: ReadonlyArray<string | number>, part?: "key") => {
      const { line, column } = read.at("a", path, part)
      return `${line}:${column}`
    }
    assert.strictEqual(at([]), "3:3")
    assert.strictEqual(at(["matrix", "w", 1, "bits"]), "6:25")
    assert.strictEqual(at(["matrix", "w", 1, "bits"], "key"), "6:19")
    assert.strictEqual(at(["matrix", "w"], "key"), "6:7")
    assert.strictEqual(at(["matrix", "w", 1, "group"]), "6:17")
    assert.strictEqual(at(["j"]), "9:8")
    assert.strictEqual(at(["j", "deep"]), "8:13")
    assert.strictEqual(at(["missing"]), "3:3")
  }),
)
