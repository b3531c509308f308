/** What the README says of the code is so. */
import { assert, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"

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
