import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { sha256 } from "../../src/engine/store/Codec.ts"
import * as Maintenance from "../../src/engine/store/Maintenance.ts"
import { Store } from "../../src/engine/store/Store.ts"
import { blobsOf, compute, keyOf, outputOf } from "./children/workload.ts"

const workload = new URL("./children/workload.ts", import.meta.url).pathname

/** One process of the workload; resolves to its exit code, or to the signal that ended it. */
const start = (directory: string, journal: string, first: number, count: number) => {
  const child = spawn(process.execPath, [workload, directory, journal, `${first}`, `${count}`], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NODE_COMPILE_CACHE: join(directory, "..", "compiled") },
  })
  const ready = once(child.stdout, "data")
  const ended = once(child, "exit").then(([code, signal]) => (signal as string | null) ?? (code as number))
  return { child, ready, ended }
}
const lines = (journal: string, word: string): ReadonlyArray<number> =>
  (existsSync(journal) ? readFileSync(journal, "utf8") : "")
    .split("\n")
    .filter((line) => line.startsWith(`${word} `))
    .map((line) => Number(line.slice(word.length + 1)))

const inDirectory = <A>(use: (directory: string, journal: string) => Promise<A>): Promise<A> => {
  const root = mkdtempSync(join(tmpdir(), "crash-"))
  return use(join(root, "cache"), join(root, "journal")).finally(() => rmSync(root, { recursive: true, force: true }))
}

const expected = (i: number) => sha256(outputOf(i, blobsOf(i).map(sha256)))

it(
  "a hundred kills at random instants lose nothing that was published, and the results are the same",
  () =>
    inDirectory(async (directory, journal) => {
      const kills = 100
      // More than a life has time for, mostly: one that ends by itself is no kill.
      const perLife = 24
      const mostLives = 4 * kills
      let next = 0
      let killed = 0
      // The first, left alone, fills the compile cache, so that the others start faster.
      assert.strictEqual(await start(directory, journal, 0, 1).ended, 0)
      const killer = async () => {
        while (killed < kills && next < mostLives) {
          const life = next++
          const { child, ready, ended } = start(directory, journal, life * 4, perLife)
          // Most die at work; some die while the store is being opened.
          if (life % 5 === 0) await sleep(Math.random() * 300)
          else await Promise.race([ready, ended]).then(() => sleep(Math.random() * 200))
          child.kill("SIGKILL")
          const end = await ended
          assert.include(["SIGKILL", 0], end)
          if (end === "SIGKILL") killed++
        }
      }
      await Promise.all([killer(), killer(), killer()])
      assert.isAtLeast(killed, kills)

      const keys = Array.from({ length: (next - 1) * 4 + perLife }, (_, i) => i)
      const published = lines(journal, "published")
      assert.isAbove(published.length, 20)
      await Effect.runPromise(
        Effect.gen(function* () {
          const store = yield* Store
          const lost = published.filter((i) => {
            const trace = store.trace(keyOf(i))
            return trace === undefined || !store.isComplete(trace)
          })
          assert.deepStrictEqual(lost, [])
          const sound = yield* Maintenance.verify({ repair: false })
          assert.deepStrictEqual(sound.wrong, [])
          assert.deepStrictEqual(sound.recomputable, [])

          const traces = yield* Effect.forEach(keys, (i) => compute(i, () => {}))
          assert.deepStrictEqual(
            traces.map(({ output }) => output),
            keys.map(expected),
          )
          assert.deepStrictEqual((yield* Maintenance.verify({ repair: false })).wrong, [])
        }).pipe(Effect.provide(Store.layer(directory))),
      )
    }),
  300_000,
)

it(
  "eight processes on one cache compute each key once and lose none",
  () =>
    inDirectory(async (directory, journal) => {
      const keys = Array.from({ length: 64 }, (_, i) => i)
      const ends = await Promise.all(keys.slice(0, 8).map(() => start(directory, journal, 0, keys.length).ended))
      assert.deepStrictEqual(ends, [0, 0, 0, 0, 0, 0, 0, 0])
      assert.deepStrictEqual(
        lines(journal, "computed").toSorted((a, b) => a - b),
        keys,
      )
      await Effect.runPromise(
        Effect.gen(function* () {
          const store = yield* Store
          for (const i of keys) assert.strictEqual(store.trace(keyOf(i))?.output, expected(i))
          const { wrong, recomputable } = yield* Maintenance.verify({ repair: false })
          assert.deepStrictEqual([wrong, recomputable], [[], []])
        }).pipe(Effect.provide(Store.layer(directory))),
      )
    }),
  120_000,
)
