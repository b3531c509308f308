import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import Fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import { join } from "node:path"
import type { RepoFile } from "../../src/hub/Digest.ts"
import * as Lock from "../../src/hub/Lock.ts"
import { folder, write } from "../support/folder.ts"
import { reference } from "./fixtures.ts"

const A = "a".repeat(40)
const B = "b".repeat(40)
const small: RepoFile = { path: "config.json", size: 22, digest: { kind: "blob", hex: "1".repeat(40) } }
const large: RepoFile = {
  path: "sub/model.safetensors",
  size: 9_000_000_000,
  digest: { kind: "sha256", hex: "2e1".padEnd(64, "3") },
}
const model = reference("hub:acme/tiny")
const data = reference("hub-data:acme/rows@v1")

const some = [
  [model, "model", { commit: A, files: [small, large] }],
  [model, "q4.gguf", { commit: A, files: [large] }],
  [data, "default, test", { commit: B, files: [small] }],
] as const
const filled = some.reduce<Lock.Lock>(
  (lock, [source, use, resolved]) => Lock.pin(lock, source, use, resolved),
  Lock.empty,
)

const TEXT = `# What this study takes from the hub, pinned by \`assay run\`. Keep this file with the study: with it, everyone gets
# the same bytes. To move a source to what its branch is now, delete its lines and run again.
version: 1
sources:
  hub-data:acme/rows@v1:
    commit: ${B}
    uses:
      default, test:
        config.json:
          size: 22
          blob: "${small.digest.hex}"
  hub:acme/tiny@main:
    commit: ${A}
    uses:
      model:
        config.json:
          size: 22
          blob: "${small.digest.hex}"
        sub/model.safetensors:
          size: 9000000000
          sha256: "${large.digest.hex}"
      q4.gguf:
        sub/model.safetensors:
          size: 9000000000
          sha256: "${large.digest.hex}"
`

describe("a lock", () => {
  it.effect("is written the same whatever the order, and read back", () =>
    Effect.gen(function* () {
      const file = join(yield* folder, "study.lock.yaml")
      assert.strictEqual(Lock.show(filled), TEXT)
      const reversed = some.toReversed().reduce<Lock.Lock>((lock, [s, u, r]) => Lock.pin(lock, s, u, r), Lock.empty)
      assert.strictEqual(Lock.show(reversed), TEXT)
      yield* Lock.update(file, () => filled)
      assert.strictEqual(Fs.readFileSync(file, "utf8"), TEXT)
      const back = yield* Lock.read(file)
      assert.strictEqual(Lock.show(back), TEXT)
      assert.deepStrictEqual(Lock.check(back, data, "default, test"), { commit: B, files: [small] })
      assert.deepStrictEqual(Fs.readdirSync(join(file, "..")), ["study.lock.yaml"])
    }),
  )

  it.effect("that is not there pins nothing", () =>
    Effect.gen(function* () {
      const lock = yield* Lock.read(join(yield* folder, "study.lock.yaml"))
      assert.strictEqual(lock.size, 0)
      assert.strictEqual(Lock.check(lock, model, "model"), undefined)
    }),
  )

  it("lies beside the study", () => {
    assert.strictEqual(Lock.fileOf("/a/b/some.yaml"), "/a/b/study.lock.yaml")
  })

  it("knows the commit for another use of what it pins", () => {
    assert.deepStrictEqual(Lock.check(filled, model, "other.gguf"), { commit: A, files: undefined })
    assert.strictEqual(Lock.check(filled, reference("hub:acme/tiny@v2"), "model"), undefined)
    assert.strictEqual(Lock.check(filled, reference("hub-data:acme/tiny"), "model"), undefined)
  })

  it("keeps what it pins", () => {
    assert.strictEqual(Lock.pin(filled, model, "model", { commit: A, files: [] }), filled)
    assert.strictEqual(Lock.pin(filled, model, "new", { commit: B, files: [small] }), filled)
  })

  it.live("takes changes of many at once, each on top of the others", () =>
    Effect.gen(function* () {
      const file = join(yield* folder, "study.lock.yaml")
      const names = Array.from({ length: 20 }, (_, i) => `m${i}`)
      const add = (name: string) => (lock: Lock.Lock) =>
        Lock.pin(lock, reference(`hub:${name}`), "model", { commit: A, files: [small] })
      yield* Effect.forEach(names, (name) => Lock.update(file, add(name)), { concurrency: "unbounded" })
      assert.strictEqual((yield* Lock.read(file)).size, 20)
    }),
  )

  it.live("waits for another writer, and gets over one that died", () =>
    Effect.gen(function* () {
      const file = join(yield* folder, "study.lock.yaml")
      const draft = write(join(file, ".."), "study.lock.yaml.draft", "half")
      yield* Effect.forkChild(
        Effect.delay(
          Effect.sync(() => Fs.rmSync(draft)),
          150,
        ),
      )
      const began = performance.now()
      yield* Lock.update(file, () => filled)
      assert.isAbove(performance.now() - began, 100)
      write(join(file, ".."), "study.lock.yaml.draft", "half")
      Fs.utimesSync(draft, 1, 1)
      yield* Lock.update(file, () => Lock.empty)
      assert.strictEqual((yield* Lock.read(file)).size, 0)
    }),
  )

  it.effect("keeps the order of a use's files", () =>
    Effect.gen(function* () {
      const file = join(yield* folder, "study.lock.yaml")
      yield* Lock.update(file, (lock) => Lock.pin(lock, data, "default, test", { commit: B, files: [large, small] }))
      assert.deepStrictEqual(Lock.check(yield* Lock.read(file), data, "default, test")?.files, [large, small])
    }),
  )

  /** What another process does right before or after a call of ours. */
  const during = <K extends "renameSync" | "statSync">(name: K, change: (call: (typeof Fs)[K]) => unknown) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const real = Fs[name]
        Fs[name] = change(real) as (typeof Fs)[K]
        syncBuiltinESMExports()
        return real
      }),
      (real) =>
        Effect.sync(() => {
          Fs[name] = real
          syncBuiltinESMExports()
        }),
    )

  it.live("leaves a draft alone that another begins when ours is published", () =>
    Effect.gen(function* () {
      const file = join(yield* folder, "study.lock.yaml")
      const draft = `${file}.draft`
      yield* during("renameSync", (real) => (from: string, to: string) => {
        real(from, to)
        if (to === file) Fs.writeFileSync(draft, "theirs")
      })
      yield* Lock.update(file, () => filled)
      assert.strictEqual(Fs.readFileSync(draft, "utf8"), "theirs")
    }),
  )

  it.live("gives back a draft that another began instead of a stale one", () =>
    Effect.gen(function* () {
      const file = join(yield* folder, "study.lock.yaml")
      const draft = write(join(file, ".."), "study.lock.yaml.draft", "stale")
      Fs.utimesSync(draft, 1, 1)
      let looked = false
      yield* during("statSync", (real) => (path: string, options: Parameters<typeof real>[1]) => {
        const found = real(path, options)
        if (path === draft && !looked) {
          looked = true
          Fs.rmSync(draft)
          Fs.writeFileSync(draft, "theirs")
        }
        return found
      })
      const kept: Array<string> = []
      yield* Effect.forkChild(
        Effect.delay(
          Effect.sync(() => {
            kept.push(Fs.readFileSync(draft, "utf8"))
            Fs.rmSync(draft)
          }),
          150,
        ),
      )
      yield* Lock.update(file, () => filled)
      assert.deepStrictEqual(kept, ["theirs"])
      assert.deepStrictEqual(Fs.readdirSync(join(file, "..")), ["study.lock.yaml"])
    }),
  )

  it.live("is written anew when another took our draft for a stale one", () =>
    Effect.gen(function* () {
      const file = join(yield* folder, "study.lock.yaml")
      let taken = false
      yield* during("renameSync", (real) => (from: string, to: string) => {
        if (!taken) Fs.rmSync(from)
        taken = true
        real(from, to)
      })
      yield* Lock.update(file, () => filled)
      assert.strictEqual(Fs.readFileSync(file, "utf8"), TEXT)
    }),
  )

  it.live("stays as it was when the change fails", () =>
    Effect.gen(function* () {
      const file = join(yield* folder, "study.lock.yaml")
      yield* Lock.update(file, () => filled)
      const error = yield* Effect.flip(
        Lock.update(file, () => {
          throw new Error("no room")
        }),
      )
      assert.match(error.message, /study.lock.yaml cannot be written: no room/)
      assert.strictEqual(Fs.readFileSync(file, "utf8"), TEXT)
      assert.deepStrictEqual(Fs.readdirSync(join(file, "..")), ["study.lock.yaml"])
      Fs.writeFileSync(file, "[")
      assert.strictEqual((yield* Effect.flip(Lock.update(file, () => filled)))._tag, "BadLock")
      assert.strictEqual(Fs.readFileSync(file, "utf8"), "[")
      assert.match(
        (yield* Effect.flip(Lock.update(join(file, "..", "no", "x.yaml"), () => filled))).message,
        /cannot be written: ENOENT/,
      )
    }),
  )

  const bad: ReadonlyArray<readonly [what: string, from: string, to: string, place: string, message: RegExp]> = [
    ["no YAML", "version: 1", "version: [", "4:1", /is not YAML/],
    ["a merge conflict", "version: 1", "<<<<<<< ours\nversion: 1\n=======", "", /is not YAML/],
    ["another version", "version: 1", "version: 2", "3:10", /version must be 1; a newer Assay/],
    ["no version", "version: 1\n", "", "3:1", /a lock lacks 'version'/],
    ["an unknown key", "version: 1", "version: 1\nextra: 2", "4:1", /a lock has the unknown key 'extra'/],
    ["no mapping", "sources:\n", "sources: x\nother:\n", "", /unknown key 'other'/],
    [
      "a name that is no reference",
      "hub:acme/tiny@main",
      "hub:../x@main",
      "12:3",
      /'hub:..\/x@main' has the repository/,
    ],
    [
      "a name in another form",
      "hub:acme/tiny@main",
      "hub:acme/tiny",
      "12:3",
      /must be written as 'hub:acme\/tiny@main'/,
    ],
    ["a commit that is none", `commit: ${A}`, "commit: main", "13:13", /commit must be 40 hexadecimal digits/],
    ["a commit that is another", "hub:acme/tiny@main", `hub:acme/tiny@${B}`, "13:13", /commit must be the one that/],
    ["a file that climbs out", "sub/model", "../model", "19:9", /the file name "..\/model.safetensors" has an empty/],
    [
      "a negative size",
      "size: 9000000000\n          sha256",
      "size: -1\n          sha256",
      "20:17",
      /size must be a number of bytes/,
    ],
    ["a size as text", "size: 9000000000\n          sha256", 'size: "9"\n          sha256', "20:17", /size must be/],
    [
      "a digest cut short",
      large.digest.hex,
      large.digest.hex.slice(1),
      "21:19",
      /sha256 must be 64 hexadecimal digits/,
    ],
    ["a digest of another kind", "sha256:", "md5:", "20:11", /must have its size and one of sha256 and blob/],
    ["a file twice", "sub/model.safetensors", "config.json", "19:9", /unique/],
    [
      "a use without files",
      `      default, test:\n        config.json:\n          size: 22\n          blob: "${small.digest.hex}"\n`,
      "      default, test: {}\n",
      "8:22",
      /must name a file/,
    ],
  ]
  for (const [what, from, to, place, message] of bad) {
    it.effect(`is refused with ${what}`, () =>
      Effect.gen(function* () {
        assert.include(TEXT, from)
        const file = write(yield* folder, "study.lock.yaml", TEXT.replace(from, to))
        const error = yield* Effect.flip(Lock.read(file))
        assert.include(error.message, `${file}:${place}`)
        assert.match(error.message, message)
        assert.match(error.message, /; restore the file, or delete the entry/)
      }),
    )
  }
})
