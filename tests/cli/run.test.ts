import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { Kind } from "../../src/engine/store/Codec.ts"
import { Store } from "../../src/engine/store/Store.ts"
import { Bench, toy } from "./Assay.ts"

const rowsLeft = (cache: string) =>
  Effect.gen(function* () {
    const { files } = yield* Store
    return [...files.index.keys(Uint8Array.of(Kind.lease)), ...files.index.keys(Uint8Array.of(Kind.run))]
  }).pipe(Effect.provide(Store.layer(cache)), Effect.runPromise)

describe("assay run", () => {
  it("computes, prints the table, and reuses everything the second time", async () => {
    using bench = new Bench()
    const study = bench.study("toy.yaml", toy())
    const first = await bench.call("run", study)
    assert.strictEqual(first.code, 0, first.stderr)
    assert.match(first.stdout, /2 +8\.000\n +3 +12\.000/)
    assert.match(first.stdout, /4 cells: 4 computed/)
    const second = await bench.call("run", study)
    assert.match(second.stdout, /2 +8\.000\n +3 +12\.000/)
    assert.match(second.stdout, /4 cells: 0 computed, 4 reused \(saved \d/)
    assert.match(second.stderr, /b: 2 cells, all cached/)
  })

  it("a value changed on the command line computes its dependents", async () => {
    using bench = new Bench()
    const study = bench.study("toy.yaml", toy())
    await bench.call("run", study)
    const { code, stdout } = await bench.call("run", study, "--set", "b.matrix.by=[2, 5]")
    assert.strictEqual(code, 0)
    assert.match(stdout, /4 cells: 2 computed, 2 reused/)
  })

  it("--only, --force, --log json", async () => {
    using bench = new Bench()
    const study = bench.study("toy.yaml", toy())
    const only = await bench.call("run", study, "--only", "b[by=3]", "--log", "json")
    const events = only.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
    assert.deepStrictEqual(
      events.filter(({ event }) => event === "finished").map(({ cell }) => cell),
      ["a", "b[by=3]"],
    )
    assert.deepInclude(events.at(-1), { event: "done", computed: 2, reused: 0, failed: 0 })
    const forced = await bench.call("run", study, "--force=a")
    assert.match(forced.stdout, /4 cells: 3 computed, 1 reused/)
  })

  it("a failed stage: exit code 1, told once, the rest kept, tried again", async () => {
    using bench = new Bench()
    const study = bench.study(
      "toy.yaml",
      `study: toy
stages:
  a: { use: number, value: 4 }
  bad: { use: scale, of: $a, by: 2, unless: ${join(bench.folder, "flag")} }
  after: { use: round, of: $bad, step: 1 }
  good: { use: scale, of: $a, by: 3 }
`,
    )
    const first = await bench.call("run", study, "-k")
    assert.strictEqual(first.code, 1)
    assert.match(first.stdout, /4 cells: 2 computed, 1 failed, 1 skipped/)
    assert.strictEqual(first.stderr.match(/FAILED/g)?.length, 1)
    writeFileSync(join(bench.folder, "flag"), "")
    const second = await bench.call("run", study)
    assert.strictEqual(second.code, 0)
    assert.match(second.stdout, /4 cells: 2 computed, 2 reused/)
  })

  it("a mistake in the study: exit code 2, its place, an excerpt and a caret, no stack", async () => {
    using bench = new Bench()
    bench.study("toy.yaml", toy().replace("value:", "valeu:"))
    const { code, stderr } = await bench.call("run", "toy.yaml")
    assert.strictEqual(code, 2)
    assert.match(stderr, /^toy\.yaml:3:21: .*did you mean 'value'/)
    assert.include(stderr, "  3 |   a: { use: number, valeu: 4 }\n    |                     ^")
    assert.notMatch(stderr, /\n +at /)
  })

  it("a mistake that a stage finds in its parameters is told before anything runs", async () => {
    using bench = new Bench()
    bench.study("toy.yaml", toy(5_000_000))
    const { code, stderr } = await bench.call("run", "toy.yaml")
    assert.strictEqual(code, 2)
    assert.match(stderr, /^toy\.yaml:3:28: larger than a million/)
  })

  it("two runs at once compute everything once", async () => {
    using bench = new Bench()
    const study = bench.study("toy.yaml", toy(4, "2, 3, 5, 7").replace("] } }", "] }, pause: 200 }"))
    const both = await Promise.all([bench.call("run", study), bench.call("run", study)])
    const computed = both.map(({ stdout }) => Number(/(\d+) computed/.exec(stdout)?.[1]))
    assert.deepStrictEqual(
      both.map(({ code }) => code),
      [0, 0],
    )
    assert.strictEqual(computed[0]! + computed[1]!, 6)
    assert.strictEqual(both[0].stdout.split("\n6 cells")[0], both[1].stdout.split("\n6 cells")[0])
  })

  it("Ctrl-C ends it within two seconds with code 130 and leaves nothing behind", async () => {
    using bench = new Bench()
    const study = bench.study("toy.yaml", toy().replace("] } }", "] }, pause: 60000 }"))
    const child = bench.start("run", study)
    await child.says("b[by=2]: started")
    const since = Date.now()
    child.kill("SIGINT")
    const { code, stderr } = await child.ended
    assert.strictEqual(code, 130)
    assert.isBelow(Date.now() - since, 2_000)
    assert.match(stderr, /interrupted; what was finished is kept/)
    assert.deepStrictEqual(await rowsLeft(bench.cache), [])
    assert.match((await bench.call("run", bench.study("toy.yaml", toy()))).stdout, /4 cells: 3 computed, 1 reused/)
  })

  it("Ctrl-C does not wait for native code in a worker", async () => {
    using bench = new Bench()
    const study = bench.study("grind.yaml", "study: grind\nstages:\n  a: { use: grind, rounds: 30000000 }\n")
    const child = bench.start("run", study)
    await child.says("a: started")
    await new Promise((resolve) => setTimeout(resolve, 300))
    const since = Date.now()
    child.kill("SIGINT")
    const { code, signal } = await child.ended
    assert.isTrue(signal === "SIGINT" || code === 130)
    assert.isBelow(Date.now() - since, 2_000)
    assert.deepStrictEqual(await rowsLeft(bench.cache), [])
  })
})
