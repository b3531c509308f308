/** Ctrl-C while ONNX Runtime is at work in threads: the run ends in good order, and what was finished is kept. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { folder } from "../support/folder.ts"

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

const interrupted = async (cache: string, delay: number) => {
  const args = [at("src/main.ts"), "run", at("pipelines/quickstart.yaml"), "--cache", cache]
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] })
  let said = ""
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (said += text))
  while (!said.includes("score[")) await sleep(20)
  await sleep(delay)
  child.kill("SIGINT")
  const [code, signal] = await once(child, "close")
  return { code: code as number | null, signal: signal as string | null, said }
}

it.live("an interruption in the midst of evaluations", () =>
  Effect.gen(function* () {
    const cache = join(yield* folder, "cache")
    for (const delay of [300, 900, 1700]) {
      const { code, said, signal } = yield* Effect.promise(() => interrupted(cache, delay))
      // A call that takes longer than a second is left to the signal.
      assert.isTrue(code === 130 || signal === "SIGINT", `code ${code}, signal ${signal}: ${said.slice(-300)}`)
      assert.notMatch(said, /terminate called|Napi/)
    }
  }),
)
