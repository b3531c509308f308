/** A cache that cannot be used as it is, through the command line: what is said, the exit code, and what still works. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import { appendFileSync, chmodSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assay, type Ended } from "./support/cli.ts"
import { folder, write } from "./support/folder.ts"
import * as Golden from "./support/golden.ts"

const LISTING = process.env["ASSAY_BAD_INPUTS"]
const list = (wrong: string, { code, said }: Ended) => {
  if (LISTING) appendFileSync(LISTING, `${wrong}\n    exit ${code}: ${said.trim().replaceAll("\n", "\n    ")}\n`)
}
const STUDY = `study: cached\nstages:\n  base: { use: load, source: "dir:model" }\n  q: { use: quantize, model: $base, matrix: { weights: [w8-g8, w4-g8, w3-g8, w2-g8] } }\n`

const prepare = Effect.map(folder, (root) => {
  Golden.copy("biases", root)
  write(root, "study.yaml", STUDY)
  return root
})
const run = (root: string, cache: string, shell = "") =>
  assay(root, ["run", "study.yaml", "--jobs", "1", "--cache", cache], shell)

it.live("two runs at once: both succeed, and what one computes the other finds", () =>
  Effect.gen(function* () {
    const root = yield* prepare
    const cache = join(root, "cache")
    const both = yield* Effect.all([run(root, cache), run(root, cache)], { concurrency: "unbounded" })
    for (const ended of both) {
      list("two runs at once", ended)
      assert.strictEqual(ended.code, 0, ended.said)
    }
    const computed = both.map(({ said }) => Number(/(\d+) computed/.exec(said)?.[1]))
    assert.strictEqual(computed[0]! + computed[1]!, 5, both.map(({ said }) => said).join("\n"))

    const again = yield* run(root, cache)
    assert.match(again.said, /5 cells: 0 computed, 5 reused/)
    yield* readOnly(root, cache)
  }),
)

/** Root may write anywhere: the run is someone else's. */
const asNobody = (root: string, cache: string, call: (shell: string) => Effect.Effect<Ended>) =>
  Effect.gen(function* () {
    for (const path of ["", ...readdirSync(cache, { recursive: true, encoding: "utf8" })]) {
      const at = join(cache, path)
      chmodSync(at, statSync(at).isDirectory() ? 0o555 : 0o444)
    }
    chmodSync(root, 0o755)
    const root0 = process.getuid?.() === 0
    if (root0 && spawnSync("setpriv", ["--version"]).status !== 0) return undefined
    return yield* call(root0 ? `exec setpriv --reuid 65534 --clear-groups "$0" "$@"` : "")
  })

const readOnly = Effect.fnUntraced(function* (root: string, cache: string) {
  const same = yield* asNobody(root, cache, (shell) => run(root, cache, shell))
  if (same === undefined) return process.stdout.write("a read-only cache is not tested: there is no setpriv\n")
  list("read-only cache, nothing to compute", same)
  assert.strictEqual(same.code, 0, same.said)
  assert.match(same.said, /5 reused/)
  write(root, "study.yaml", STUDY.replace("w2-g8", "w5-g8"))
  const more = (yield* asNobody(root, cache, (shell) => run(root, cache, shell)))!
  list("read-only cache, something to compute", more)
  assert.oneOf(more.code, [1, 2], more.said)
  assert.match(more.said, /cache .*cannot be written/)
})

it.live("a cache from a newer format, and a damaged one", () =>
  Effect.gen(function* () {
    const root = yield* prepare
    const cache = join(root, "cache")
    mkdirSync(cache)
    writeFileSync(join(cache, "current.json"), '{"format":99,"lmdb":3,"generation":1}')
    const newer = yield* run(root, cache)
    list("cache from a newer format", newer)
    assert.strictEqual(newer.code, 2)
    assert.match(newer.said, /has format 99 .*use a newer release/)

    const other = join(root, "other")
    assert.strictEqual((yield* run(root, other)).code, 0)
    writeFileSync(join(other, "generation-1", "index.mdb"), Buffer.alloc(100_000, 7))
    const damaged = yield* run(root, other)
    list("corrupted LMDB file", damaged)
    assert.strictEqual(damaged.code, 2)
    assert.match(damaged.said, /clear the cache/)
  }),
)

it.live("a full disk", () =>
  Effect.gen(function* () {
    const root = yield* prepare
    const disk = join(root, "disk")
    mkdirSync(disk)
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=160k", "tmpfs", disk])
    if (mounted.status !== 0)
      return process.stdout.write("a full disk is not tested: no file system can be mounted here\n")
    yield* Effect.gen(function* () {
      const full = yield* run(root, join(disk, "cache"))
      list("disk full", full)
      assert.oneOf(full.code, [1, 2], full.said)
      assert.match(full.said, /no space|no room|full/i)
      assert.notMatch(full.said, /\n\s+at /)
    }).pipe(Effect.ensuring(Effect.sync(() => spawnSync("umount", ["-l", disk]))))
  }),
)
