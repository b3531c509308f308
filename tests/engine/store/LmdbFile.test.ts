import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { open } from "lmdb"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { truncateSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { damage } from "../../../src/engine/store/LmdbFile.ts"
import { directory } from "../temporary.ts"

const looker = new URL("../children/inspect.ts", import.meta.url).pathname

const watchWhileItGrows = async (path: string): Promise<string> => {
  const db = open({ path, keyEncoding: "binary", encoding: "binary", overlappingSync: false, remapChunks: false })
  const child = spawn(process.execPath, [looker, path], { stdio: ["ignore", "pipe", "inherit"] })
  let said = ""
  child.stdout.on("data", (text) => (said += text))
  await once(child.stdout, "data")
  // Stopped at any instant of its look, while the file grows by more than the slack that a sound file may lack.
  for (let i = 0; i < 60; i++) {
    child.kill("SIGSTOP")
    db.transactionSync(() => void db.put(Buffer.from(`key ${i}`), Buffer.alloc(4 << 20, i)))
    child.kill("SIGCONT")
    await sleep(5)
  }
  child.kill("SIGTERM")
  await once(child, "close")
  await db.close()
  return said
}

it.live("a file that grows during a look is sound, and the same file cut short is not", () =>
  Effect.gen(function* () {
    const path = join(yield* directory, "growing.mdb")
    assert.strictEqual(yield* Effect.promise(() => watchWhileItGrows(path)), "ready\n")
    assert.strictEqual(damage(path), undefined)
    truncateSync(path, 100 << 20)
    assert.strictEqual(damage(path), "has been cut short")
  }),
)
