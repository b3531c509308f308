import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import { readFileSync, utimesSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Fingerprint from "../../../src/engine/plan/Fingerprint.ts"
import { folder } from "../Studies.ts"

const TREE = {
  "stages/a.ts": `import { helper } from "../src/helper.ts"
import type { Shape } from "../src/shape.ts"
import { join } from "node:path"
import { tool } from "tool/deep"
export default (x: number): Shape => helper(join("a", tool), x)
`,
  "stages/b.ts": `export default () => new Worker(new URL("../src/worker.ts", import.meta.url))
const table = new URL("../src/table.json", import.meta.url)
const folder = new URL("../src/", import.meta.url)
const elsewhere = new URL("https://example.org/x.ts", import.meta.url)
`,
  "stages/c.ts": `export const load = () => import("../src/lazy.ts")
export const plugin = (name: string) => import(\`../src/\${name}.ts\`)
`,
  "src/helper.ts": `import { constant } from "./constant.ts"
/** Adds. */
export const helper = (a: string, x: number) => ({ a, b: x + constant })
`,
  "src/constant.ts": `import "./helper.ts"
export const constant = 4
`,
  "src/shape.ts": `export interface Shape { a: string; b: number }
`,
  "src/worker.ts": `import { constant } from "./constant.ts"
postMessage(constant)
`,
  "src/lazy.ts": `export const lazy = 1
`,
  "src/plugged.ts": `export const plugged = 1
`,
  "src/table.json": `{ "a": 1 }
`,
  "node_modules/tool/package.json": `{ "name": "tool", "version": "1.2.3" }
`,
}
type File = keyof typeof TREE
const STAGES = ["a", "b", "c"]

const none: Fingerprint.Cache = { get: () => undefined, set: () => {} }
const fingerprints = Effect.fnUntraced(function* (root: string, cache = none) {
  const of = Fingerprint.make(cache)
  return yield* Effect.forEach(STAGES, (name) => of(join(root, `stages/${name}.ts`)))
})

/** Which stages an edit of one file changes. */
const edits = (name: string, file: File, edit: (text: string) => string, changed: string) =>
  it.effect(name, () =>
    Effect.gen(function* () {
      const root = yield* folder(TREE)
      const before = yield* fingerprints(root)
      const text = readFileSync(join(root, file), "utf8")
      assert.notStrictEqual(edit(text), text)
      writeFileSync(join(root, file), edit(text))
      const after = yield* fingerprints(root)
      assert.strictEqual(STAGES.filter((_, i) => after[i] !== before[i]).join(""), changed)
    }),
  )

describe("changes nothing", () => {
  edits(
    "a comment",
    "src/helper.ts",
    (text) => text.replace("Adds.", "Sums.\n * Really.\n").replace("({", "/* x */ ({"),
    "",
  )
  edits(
    "formatting",
    "src/helper.ts",
    (text) =>
      text
        .replaceAll('"', "'")
        .replaceAll("\n", ";\n\n")
        .replace("{ a, b: x + constant }", "{\n  a,\n  b: (x + constant),\n}"),
    "",
  )
  edits("a type", "src/helper.ts", (text) => text.replace("x: number", "x: number | 3"), "")
  edits("a file of types only", "src/shape.ts", (text) => text.replace("number", "string"), "")
  edits(
    "a type-only import",
    "stages/a.ts",
    (text) => text.replace("import type { Shape }", "import type { Other }"),
    "",
  )
  edits("an unrelated file", "src/plugged.ts", (text) => text.replace("1", "2"), "")
})

describe("changes exactly what depends on it", () => {
  edits("a stage", "stages/a.ts", (text) => text.replace('"a"', '"b"'), "a")
  edits("a helper", "src/helper.ts", (text) => text.replace("x +", "x -"), "ab")
  edits("a constant below a helper and a worker", "src/constant.ts", (text) => text.replace("4", "5"), "ab")
  edits("a worker", "src/worker.ts", (text) => text.replace("(constant)", "(-constant)"), "b")
  edits("an asset", "src/table.json", (text) => text.replace("1", "2"), "b")
  edits("a literal dynamic import", "src/lazy.ts", (text) => text.replace("1", "2"), "c")
  edits("a package's version", "node_modules/tool/package.json", (text) => text.replace("1.2.3", "1.2.4"), "a")
  edits(
    "a line break that ends a statement",
    "src/lazy.ts",
    (text) => text.replace("= 1", "= (() => { return\n1 })()"),
    "c",
  )
  edits("a regular expression", "src/lazy.ts", (text) => text.replace("1", "/a/g"), "c")
  it.effect("one token of a regular expression, a template, a big integer", () =>
    Effect.gen(function* () {
      const root = yield* folder({})
      const digest = (text: string) => {
        writeFileSync(join(root, "x.ts"), text)
        return Fingerprint.make(none)(join(root, "x.ts"))
      }
      const texts = [
        "/a/g",
        "/b/g",
        "/a/i",
        "`a`",
        "`b`",
        "`a${1}`",
        "1n",
        "2n",
        "1",
        '"1"',
        "-0",
        "1e999",
        "null",
        "async () => 1",
        "() => 1",
      ]
      const digests = yield* Effect.forEach(texts, (text) => digest(`export default ${text}`))
      assert.strictEqual(new Set(digests).size, texts.length)
      assert.strictEqual(yield* digest("export default 0x10"), yield* digest("export default (16.0);"))
    }),
  )
})

describe("where the code lies", () => {
  it.effect("does not matter for the whole tree", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* folder(TREE), yield* folder(TREE)]
      assert.deepStrictEqual(yield* fingerprints(one), yield* fingerprints(other))
    }),
  )
  it.effect("what is missing is an error, or missing", () =>
    Effect.gen(function* () {
      const root = yield* folder({
        "a.ts": 'import "./b.ts"\n',
        "c.ts": 'import "nothing-of-this-name"\n',
        "d.ts": "export const = 1\n",
        "e.ts": 'new URL("./later.json", import.meta.url)\n',
      })
      const of = (name: string) =>
        Effect.map(Effect.flip(Fingerprint.make(none)(join(root, name))), (_) => _.reason.replaceAll(`${root}/`, ""))
      assert.strictEqual(yield* of("a.ts"), "cannot fingerprint a.ts: './b.ts', imported by a.ts, does not exist")
      assert.strictEqual(
        yield* of("c.ts"),
        "cannot fingerprint c.ts: package 'nothing-of-this-name', imported by c.ts, is not installed",
      )
      assert.match(yield* of("d.ts"), /^cannot fingerprint d\.ts: .*/)
      assert.strictEqual(yield* of("f.ts"), "cannot fingerprint f.ts: no such file")
      const before = yield* Fingerprint.make(none)(join(root, "e.ts"))
      writeFileSync(join(root, "later.json"), "1")
      assert.notStrictEqual(yield* Fingerprint.make(none)(join(root, "e.ts")), before)
    }),
  )
})

const counting = () => {
  const entries = new Map<string, string>()
  return {
    entries,
    cache: {
      get: (key: string) => entries.get(key),
      set: (key: string, value: string) => void entries.set(key, value),
    },
  }
}
/** Makes files look as if they were all written at one moment, an hour ago. */
const then = Date.now() / 1000 - 3600
const age = (root: string) => {
  for (const file of Object.keys(TREE)) utimesSync(join(root, file), then, then)
}

describe("remembering", () => {
  it.effect("files that were not touched are not read again", () =>
    Effect.gen(function* () {
      const root = yield* folder(TREE)
      age(root)
      const { entries, cache } = counting()
      const before = yield* fingerprints(root, cache)
      assert.isAbove(entries.size, 8)
      // Remembered results are believed: a wrong one would show.
      const forged = new Map(
        [...entries].map(([key, value]) => [key, value.replace(/"digest":"\w+"/, '"digest":"forged"')]),
      )
      const after = yield* fingerprints(root, {
        get: (key: string) => forged.get(key),
        set: () => assert.fail("read again"),
      })
      assert.notDeepEqual(after, before)
      assert.deepStrictEqual(yield* fingerprints(root, cache), before)
    }),
  )
  it.effect("an edit that keeps size and modification time is seen", () =>
    Effect.gen(function* () {
      const root = yield* folder(TREE)
      age(root)
      const { cache } = counting()
      const before = yield* fingerprints(root, cache)
      writeFileSync(join(root, "src/lazy.ts"), TREE["src/lazy.ts"].replace("1", "2"))
      age(root)
      assert.notStrictEqual((yield* fingerprints(root, cache))[2], before[2])
    }),
  )
  it.effect("a file written a moment ago is not remembered", () =>
    Effect.gen(function* () {
      const { entries, cache } = counting()
      yield* fingerprints(yield* folder(TREE), cache)
      assert.strictEqual(entries.size, 0)
    }),
  )
})

it("nothing is announced on standard error", () => {
  const module = fileURLToPath(new URL("../../../src/engine/plan/Module.ts", import.meta.url))
  const script = `import { parse } from ${JSON.stringify(module)}; parse("const x: number = 1", true)`
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" })
  assert.deepStrictEqual({ status, stderr }, { status: 0, stderr: "" })
})
