/** Judges many seeds in child processes. A child that dies or hangs is an offence of the seed it was at. */
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { formatOf } from "./Formats.ts"
import type { Verdict } from "./Judge.ts"

const child = fileURLToPath(new URL("child.ts", import.meta.url))
/** Seconds by the clock until a child is given up: far more than is allowed, for machines with other work. */
const PATIENCE = 20
/** V8's heap, in MB: a case that needs more dies. */
const HEAP = 512

const start = () =>
  fork(child, { execArgv: ["--expose-gc", `--max-old-space-size=${HEAP}`], stdio: ["ignore", "ignore", "pipe", "ipc"] })

/** One seed in a child; `undefined` for the child if it is of no more use. */
const ask = (worker: ChildProcess, seed: number): Promise<{ verdict: Verdict; alive: boolean }> =>
  new Promise((resolve) => {
    let said = ""
    const hear = (bytes: Buffer) => void (said = (said + bytes.toString()).slice(-2000))
    const end = (verdict: Verdict, alive: boolean) => {
      clearTimeout(timer)
      worker.stderr!.off("data", hear)
      worker.off("message", done)
      worker.off("exit", died)
      resolve({ verdict, alive })
    }
    const lost = (offence: string): Verdict => ({
      seed,
      format: formatOf(seed).name,
      outcome: "crashed",
      message: said,
      seconds: PATIENCE,
      memory: 0,
      offence,
    })
    const done = (verdict: unknown) => end(verdict as Verdict, true)
    const died = (code: number | null, signal: string | null) =>
      end(lost(`the process died of ${signal ?? code}`), false)
    const timer = setTimeout(() => {
      worker.kill("SIGKILL")
      end(lost(`nothing came in ${PATIENCE} s`), false)
    }, PATIENCE * 1000)
    worker.stderr!.on("data", hear)
    worker.on("message", done)
    worker.on("exit", died)
    worker.send(seed)
  })

/** @param each is told every verdict as it comes */
export const run = async (
  seeds: ReadonlyArray<number>,
  processes: number,
  each: (verdict: Verdict) => void = () => {},
): Promise<ReadonlyArray<Verdict>> => {
  const verdicts: Array<Verdict> = []
  const left = seeds.values()
  await Promise.all(
    Array.from({ length: processes }, async () => {
      let worker = start()
      for (const seed of left) {
        const { alive, verdict } = await ask(worker, seed)
        verdicts.push(verdict)
        each(verdict)
        if (!alive) worker = start()
      }
      worker.disconnect()
    }),
  )
  return verdicts
}
