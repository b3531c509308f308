/** What the README says of the code is so. */
import { assert, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import type { Scorer } from "../src/tasks/Scorer.ts"
import { modules } from "./support/plugins.ts"

const root = new URL("../", import.meta.url)
const readme = readFileSync(new URL("README.md", root), "utf8")

it("its links lead somewhere", () => {
  const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)]
    .map(([, path]) => path!)
    .filter((path) => !/^https?:/.test(path))
  assert.isAbove(links.length, 5)
  assert.deepStrictEqual(
    links.filter((path) => !existsSync(new URL(path, root))),
    [],
  )
})

it("the files it counts have as many lines", () => {
  const counted = [...readme.matchAll(/\]\(([^)]+)\), (\d+) lines/g)].map(([, path, count]) => [path!, Number(count)])
  const lines = (path: string) => readFileSync(new URL(path, root), "utf8").trimEnd().split("\n").length
  assert.isAbove(counted.length, 2)
  assert.deepStrictEqual(
    counted,
    counted.map(([path]) => [path, lines(path as string)]),
  )
})

it("names every key of every kind of task", async () => {
  const kinds = await modules("src/tasks")
  assert.isAbove(kinds.length, 3)
  for (const { name, value } of kinds) {
    const [row] = new RegExp(`^\\| \`${name}\` .*$`, "m").exec(readme) ?? [""]
    const named = [...row.matchAll(/`(\w+)`/g)].map(([, key]) => key!)
    for (const key of Object.keys((value as Scorer<any>).fields)) assert.include(named, key, name)
  }
})
