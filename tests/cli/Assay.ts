/** The real command line in a child process, with toy stages and a cache of its own. */
import { spawn } from "node:child_process"
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { stages } from "../engine/Workbench.ts"

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url))

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface Child {
  readonly ended: Promise<Ended>
  readonly kill: (signal: NodeJS.Signals) => void
  /** Resolves when that text has appeared on standard error. */
  readonly says: (text: string) => Promise<void>
}

/** A folder with a cache in it. */
export class Bench implements Disposable {
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), "assay-cli-")))
  readonly cache = join(this.folder, "cache")

  study(name: string, yaml: string): string {
    const file = join(this.folder, name)
    writeFileSync(file, yaml)
    return file
  }

  start(...args: ReadonlyArray<string>): Child {
    const child = spawn(process.execPath, [main, ...args], {
      cwd: this.folder,
      env: { ...process.env, ASSAY_STAGES: stages, ASSAY_CACHE: this.cache, NO_COLOR: "1" },
    })
    let stdout = ""
    let stderr = ""
    const listeners: Array<() => void> = []
    child.stdout.on("data", (bytes: Buffer) => void (stdout += bytes.toString()))
    child.stderr.on("data", (bytes: Buffer) => {
      stderr += bytes.toString()
      for (const listener of listeners) listener()
    })
    const says = (text: string) =>
      new Promise<void>((resolve) => {
        const look = () => stderr.includes(text) && resolve()
        listeners.push(look)
        look()
      })
    return {
      ended: new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }))),
      kill: (signal) => void child.kill(signal),
      says,
    }
  }

  call(...args: ReadonlyArray<string>): Promise<Ended> {
    return this.start(...args).ended
  }

  [Symbol.dispose]() {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

export const toy = (value: number | string = 4, by = "2, 3") => `study: toy
stages:
  a: { use: number, value: ${value} }
  b: { use: scale, of: $a, matrix: { by: [${by}] } }
  table: { use: list, numbers: $b }
`
