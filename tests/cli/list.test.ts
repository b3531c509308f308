import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { sources } from "../../stages/Readable.ts"
import { Bench } from "./Assay.ts"

const root = new URL("../../", import.meta.url)
const families = readdirSync(new URL("src/models", root))
  .filter((file) => /^[a-z]/.test(file))
  .map((file) => file.slice(0, -".ts".length))
  .toSorted()

describe("assay list models", () => {
  it("has a line for every family, with checkpoints, GGUF, and what it is", async () => {
    using bench = new Bench()
    const { code, stdout } = await bench.call("list", "models")
    assert.strictEqual(code, 0)
    const lines = stdout.split("\n")
    assert.deepStrictEqual(
      lines.slice(0, families.length).map((line) => line.split(" ")[0]),
      families,
    )
    assert.match(stdout, /^llama +Llama 1 to 3\.x, .+ +GGUF {2}Llama \(Touvron et al\. 2023\)/m)
    assert.match(stdout, /^ {2}GGUF +F32, F16, BF16, .*Q4_K/m)
    assert.match(stdout, /^ {2}safetensors .*BF16/m)
    const listed = JSON.parse((await bench.call("list", "models", "--json")).stdout)
    for (const { covers, description, gguf, name } of listed) {
      assert.isAbove(covers.length, 3, name)
      assert.isBelow(covers.length, 100, name)
      assert.isAbove(description.length, 20, name)
      assert.strictEqual(gguf, /\n {2}gguf: /.test(readFileSync(new URL(`src/models/${name}.ts`, root), "utf8")), name)
    }
  })

  it("as Markdown is the README's table", async () => {
    using bench = new Bench()
    const { stdout } = await bench.call("list", "models", "--markdown")
    const readme = readFileSync(new URL("README.md", root), "utf8")
    const [, table] = /<!-- assay list models --markdown -->\n\n([\s\S]*?)\n<!-- end of the list -->/.exec(readme) ?? []
    assert.strictEqual(table, stdout)
  })

  it("names the sources that load takes", async () => {
    const load = readFileSync(new URL("stages/load.ts", root), "utf8")
    for (const { name } of sources) assert.include(load, name)
  })
})
