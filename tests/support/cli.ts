/** The command line as a process of its own. */
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url))

export interface Ended {
  readonly code: number | null
  /** Standard output and standard error, one after the other. */
  readonly said: string
}

/** @param shell run before `exec`: limits, another user */
export const assay = (cwd: string, args: ReadonlyArray<string>, shell = ""): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    const { ASSAY_CACHE: _, ASSAY_STAGES: __, ...env } = process.env
    const child =
      shell === ""
        ? spawn(process.execPath, [main, ...args], { cwd, env })
        : spawn("bash", ["-c", `${shell}; exec "$0" "$@"`, process.execPath, main, ...args], { cwd, env })
    const parts = { stdout: "", stderr: "" }
    for (const stream of ["stdout", "stderr"] as const) {
      child[stream].setEncoding("utf8").on("data", (text: string) => (parts[stream] += text))
    }
    child.on("close", (code) => resume(Effect.succeed({ code, said: `${parts.stdout}${parts.stderr}` })))
    return Effect.sync(() => child.kill())
  })
