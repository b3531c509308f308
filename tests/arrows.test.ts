/** Who may import whom: the two pillars never meet, the domain folders know nothing of stages, data flows one way. */
import { assert, describe, it } from "@effect/vitest"
import { parse } from "acorn"
import { readdirSync, readFileSync } from "node:fs"
import { stripTypeScriptTypes } from "node:module"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

/** Folders of `src` that the files of each part may import from; its own is among them. */
const allowed: { readonly [part: string]: ReadonlyArray<string> } = {
  engine: ["engine"],
  math: ["math"],
  onnx: ["onnx"],
  formats: ["formats", "math"],
  methods: ["methods", "formats", "math"],
  models: ["models", "onnx", "math"],
  data: ["data", "math"],
  compute: ["compute", "onnx", "models", "methods", "formats", "math", "data"],
  hub: ["hub", "data"],
  // Of compute, only the types of a request and its scores.
  tasks: ["tasks", "compute", "math"],
  stages: ["stages", "engine", "compute", "onnx", "models", "methods", "formats", "math", "data", "tasks"],
  cli: ["cli", "main", "engine", "compute", "hub", "stages"],
  main: ["cli", "main", "engine", "compute"],
}

const under = (folder: string) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".d.ts"))
    .map((file) => join(folder, file))
const files = [...under("src"), ...under("stages")]

/** `src/engine/plan/Plan.ts` is of the part `engine`, `src/main.ts` of `main`, `stages/load.ts` of `stages`. */
const partOf = (file: string): string => {
  const [top, second] = relative(root, file).split("/")
  return top === "src" ? second!.replace(/\.ts$/, "") : top!
}

interface Import {
  readonly from: string
  readonly to: string
  readonly typeOnly: boolean
}

/** Everything a file names: imports and exports, of types too, `import("…")`, `new URL("…", import.meta.url)`. */
const importsOf = (file: string): ReadonlyArray<Import> => {
  const text = readFileSync(join(root, file), "utf8")
  const found = new Map<string, Import>()
  const add = (to: string, typeOnly: boolean) => {
    if (!found.has(to) || !typeOnly) found.set(to, { from: file, to, typeOnly })
  }
  // Types are gone after stripping: they are read off the text, everything else off the syntax.
  for (const [, to] of text.matchAll(/^\s*(?:import|export) type\b[^"']*?from\s+["']([^"']+)["']/gm)) add(to!, true)
  for (const [, to] of text.matchAll(/(?<![\w.])typeof import\(\s*["']([^"']+)["']\s*\)/g)) add(to!, true)
  const visit = (node: any): void => {
    if (node === null || typeof node !== "object") return
    if (Array.isArray(node)) return node.forEach(visit)
    if (typeof node.source?.value === "string") add(node.source.value, false)
    if (
      node.type === "NewExpression" &&
      node.callee.name === "URL" &&
      /^\.{1,2}\//.test(node.arguments[0]?.value ?? "")
    ) {
      add(node.arguments[0].value, false)
    }
    Object.values(node).forEach(visit)
  }
  visit(parse(stripTypeScriptTypes(text), { ecmaVersion: "latest", sourceType: "module" }))
  // `import { type A } from` and imports used as types only vanish or become empty: named here with the rest.
  for (const [, to] of text.matchAll(/^\s*(?:import|export)\b[^"'();]*?from\s+["']([^"']+)["']/gm)) add(to!, true)
  return [...found.values()]
}

const all = files.flatMap(importsOf)
const local = all.filter(({ to }) => to.startsWith("."))
const target = ({ from, to }: Import) => join(dirname(from), to)
const shown = ({ from, to }: Import) => `${from} -> ${to}`

describe("imports", () => {
  it("are found", () => {
    assert.isAbove(files.length, 100)
    assert.isAbove(local.length, 300)
    const has = (from: string, to: string) => local.some((one) => one.from === from && target(one) === to)
    assert.isTrue(has("src/compute/Model.ts", "src/onnx/Block.ts"), "static")
    assert.isTrue(has("src/compute/Model.ts", "src/models/Family.ts"), "of a type")
    assert.isTrue(has("stages/load.ts", "stages/Loading.ts"), "dynamic")
    assert.isTrue(has("src/compute/Pool.ts", "src/compute/worker.ts"), "by URL")
    assert.isTrue(has("src/main.ts", "src/engine/store/Store.ts"), "dynamic, in main")
  })

  it("of every part are of the parts it may know", () => {
    const parts = new Set(files.map(partOf))
    assert.deepStrictEqual(
      [...parts].filter((part) => !(part in allowed)),
      [],
    )
    const astray = local.filter((one) => {
      const to = target(one)
      // A folder named for its listing (`new URL("../src/methods/", …)`), package.json, the bundled pipelines.
      if (!to.endsWith(".ts")) return false
      return !allowed[partOf(one.from)]!.includes(partOf(to))
    })
    assert.deepStrictEqual(astray.map(shown), [])
  })

  it("of tasks from compute are types only", () => {
    const astray = local.filter((one) => partOf(one.from) === "tasks" && partOf(target(one)) === "compute")
    assert.isAbove(astray.length, 0)
    assert.deepStrictEqual(astray.filter(({ typeOnly }) => !typeOnly).map(shown), [])
  })

  it("name the file, never a barrel", () => {
    assert.deepStrictEqual(
      files.filter((file) => /(^|\/)index\.ts$/.test(file)),
      [],
    )
    const barrels = all.filter(
      ({ to }) => to === "effect" || to === "@effect/platform-node" || /\/index(\.\w+)?$/.test(to),
    )
    assert.deepStrictEqual(barrels.map(shown), [])
    const withoutExtension = local.filter(
      ({ to }) => !/\.(ts|js|json|d\.ts)$|\/$/.test(to) && !/^(\.\.\/)+(\w+)?$/.test(to),
    )
    assert.deepStrictEqual(withoutExtension.map(shown), [])
  })

  it("of packages are declared", () => {
    const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
    const packages = all
      .filter(({ to }) => !/^[./]|^node:/.test(to))
      .filter(
        ({ to }) =>
          !(
            to
              .split("/")
              .slice(0, to.startsWith("@") ? 2 : 1)
              .join("/") in dependencies
          ),
      )
    assert.deepStrictEqual(packages.map(shown), [])
  })

  it("make no circle", () => {
    const edges = Map.groupBy(
      local.filter(({ typeOnly }) => !typeOnly),
      ({ from }) => from,
    )
    const done = new Set<string>()
    const visit = (file: string, path: ReadonlyArray<string>): ReadonlyArray<string> | undefined => {
      if (path.includes(file)) return [...path.slice(path.indexOf(file)), file]
      if (done.has(file)) return undefined
      for (const one of edges.get(file) ?? []) {
        const circle = visit(target(one), [...path, file])
        if (circle) return circle
      }
      done.add(file)
      return undefined
    }
    for (const file of files) assert.isUndefined(visit(file, []))
  })
})
