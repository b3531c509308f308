import { assert, describe, it } from "@effect/vitest"
import { existsSync } from "node:fs"
import { Bench, toy } from "./Assay.ts"

describe("assay", () => {
  it("wrong calls: exit code 2 and one sentence that says what would be right", async () => {
    using bench = new Bench()
    const cases: ReadonlyArray<readonly [ReadonlyArray<string>, RegExp]> = [
      [["rnu", "x.yaml"], /no command 'rnu'; did you mean 'run'/],
      [["run"], /which study\?/],
      [["run", "nosuch.yaml"], /there is no study file nosuch\.yaml/],
      [["run", "x.yaml", "--jbos", "2"], /no flag --jbos; did you mean '--jobs'/],
      [["run", "x.yaml", "--jobs", "0"], /--jobs: '0' is not a whole number of at least 1/],
      [["run", "x.yaml", "--only"], /--only needs a value/],
      [["run", "x.yaml", "y.yaml"], /'y\.yaml' is more than the command takes/],
      [["list", "stage"], /what: no 'stage'; did you mean 'stages'/],
      [["cache"], /which cache command\?/],
      [["run", bench.study("toy.yaml", toy()), "--only", "c"], /no stage 'c' in this study/],
      [["run", bench.study("toy.yaml", toy()), "--only", "b[by=9]"], /no cell 'b\[by=9\]'; did you mean/],
    ]
    for (const [args, message] of cases) {
      const { code, stderr, stdout } = await bench.call(...args)
      assert.strictEqual(code, 2, args.join(" "))
      assert.match(stderr, message)
      assert.strictEqual(stdout, "")
    }
  })

  it("help for all and for each command, without opening a cache", async () => {
    using bench = new Bench()
    const { code, stdout } = await bench.call("--help")
    assert.strictEqual(code, 0)
    const names = [...stdout.matchAll(/^ {2}([a-z]+(?: [a-z]+)?) {2,}\S/gm)].map(([, name]) => name!)
    assert.includeMembers(names, ["plan", "run", "why", "results", "list", "schema", "cache stats", "cache gc"])
    const helps = await Promise.all(names.map((name) => bench.call(...name.split(" "), "--help")))
    helps.forEach((help, i) => assert.match(help.stdout, new RegExp(`assay ${names[i]}`)))
    assert.match((await bench.call("--version")).stdout, /^\d+\.\d+\.\d+\n$/)
    assert.isFalse(existsSync(bench.cache))
  })

  it("plan tells what would run and why, and runs nothing", async () => {
    using bench = new Bench()
    const study = bench.study("toy.yaml", toy())
    const cold = await bench.call("plan", study)
    assert.match(cold.stdout, /toy: 4 cells, 0 cached, 4 to compute, their cost is not known yet/)
    await bench.call("run", study)
    assert.match((await bench.call("plan", study)).stdout, /toy: 4 cells, 4 cached, nothing to compute/)
    bench.study("toy.yaml", toy(4, "2, 5"))
    const changed = await bench.call("plan", study)
    assert.match(changed.stdout, /b\[by=5\]: by: [23] -> 5 {2}\(toy\.yaml:4:46\), about 0\.\d s/)
    assert.match(changed.stdout, /2 cached, 2 to compute, about 0\.\d s of work, \d+ MB of memory, \d+ B of disk/)
    const { cells, totals } = JSON.parse((await bench.call("plan", study, "--json")).stdout)
    assert.deepInclude(totals, { cells: 4, cached: 2, compute: 2 })
    assert.deepStrictEqual(
      cells.map(({ status }: { readonly status: string }) => status),
      ["cached", "cached", "compute", "compute"],
    )
    assert.match((await bench.call("plan", study, "--dot")).stdout, /"a" -> "b\[by=2\]";/)
  })

  it("why names the field that changed, at its place", async () => {
    using bench = new Bench()
    const study = bench.study("toy.yaml", toy(4))
    await bench.call("run", study)
    assert.match((await bench.call("why", study, "table")).stdout, /^table is cached: computed as table of toy, /)
    bench.study("toy.yaml", toy(6))
    const { code, stdout } = await bench.call("why", study, "b[by=2]")
    assert.strictEqual(code, 0)
    assert.match(stdout, /input of is to be computed first: a\n +because value: 4 -> 6 {2}\(toy\.yaml:3:28\)/)
  })

  it("results prints tables and logs from the cache, and computes nothing", async () => {
    using bench = new Bench()
    const study = bench.study("toy.yaml", toy())
    const none = await bench.call("results", study)
    assert.strictEqual(none.code, 2)
    assert.match(none.stderr, /table is not in the cache; assay run .* computes it/)
    await bench.call("run", study)
    assert.match((await bench.call("results", study)).stdout, /2 +8\.00/)
    assert.match(
      (await bench.call("results", study, "--csv")).stdout,
      /^cell,by,metric,value,n,.*\r\nb\[by=2\],2,value,8,1/,
    )
    assert.strictEqual(JSON.parse((await bench.call("results", study, "--json")).stdout).rows.length, 2)
    assert.match((await bench.call("results", study, "--markdown")).stdout, /^\| by \|/m)
    assert.match((await bench.call("results", study, "--log", "b[by=3]")).stdout, /s {2}4 x 3$/m)
    const items = await bench.call("results", study, "--items", "b[by=3]")
    assert.strictEqual(items.code, 2)
    assert.match(items.stderr, /^b\[by=3\] gives a number; items are of cells that evaluate$/m)
  })

  it("list reads the folders", async () => {
    using bench = new Bench()
    assert.match(
      (await bench.call("list", "stages")).stdout,
      /scale +A number times another\n +of: \$number\n +by: number/,
    )
    assert.match((await bench.call("list", "methods")).stdout, /^rtn +\S/m)
    assert.match((await bench.call("list", "tasks")).stdout, /^tiny-prose +\S/m)
  })

  it("the cache: stats, verify, gc, clear", async () => {
    using bench = new Bench()
    const study = bench.study("toy.yaml", toy())
    await bench.call("run", study)
    assert.match((await bench.call("cache", "stats")).stdout, /in use/)
    assert.match((await bench.call("cache", "verify")).stdout, /0 wrong/)
    assert.match((await bench.call("cache", "gc", "--max", "1kB")).stdout, /evicted/)
    assert.match((await bench.call("run", study)).stdout, /4 cells: \d computed/)
    assert.strictEqual((await bench.call("cache", "clear")).code, 0)
    assert.match((await bench.call("run", study)).stdout, /4 cells: 4 computed/)
  })
})
