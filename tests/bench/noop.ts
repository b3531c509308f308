/**
 * What a run costs that finds nothing to do: wall time from process start for studies of 100, 1,000 and 10,000 cells,
 * and each further cell's share. Beside it the time in which the same machine starts a Node process that does nothing.
 */
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { fastest, type Row } from "./Row.ts"

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url))
const stages = fileURLToPath(new URL("../engine/toys/Arithmetic", import.meta.url))
const bars = new Map([
  [100, 0.5],
  [1_000, 0.7],
  [10_000, 1.8],
])
const repeats = 7

/** A source, and a sweep over the rest. */
const study = (cells: number) => {
  const values = Array.from({ length: cells - 1 }, (_, i) => i + 1).join(", ")
  return `study: noop\nstages:\n  a: { use: number, value: 4 }\n  b: { use: round, of: $a, matrix: { step: [${values}] } }\n`
}

/** Seconds of wall time. */
const best = (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = process.env): number =>
  fastest(repeats, () => {
    const { status, stderr } = spawnSync(process.execPath, args, { env, encoding: "utf8" })
    if (status !== 0) throw new Error(`${args.join(" ")} ended with ${status}: ${stderr}`)
  }) / 1000

/** Microseconds to hash what one cell's key is made of, which nothing that looks up by content can do without. */
const hashing = (): number => {
  const count = 10_000
  const since = performance.now()
  for (let i = 0; i < count; i++) createHash("sha256").update(`${i}`.padEnd(600)).digest("hex")
  return ((performance.now() - since) * 1000) / count
}

export const bench = async (): Promise<ReadonlyArray<Row>> => {
  const folder = mkdtempSync(join(tmpdir(), "noop-"))
  try {
    const env = { ...process.env, ASSAY_STAGES: stages, ASSAY_CACHE: join(folder, "cache") }
    const limit = best(["-e", "0"])
    const rows: Array<Row> = []
    const walls = new Map<number, number>()
    for (const [cells, bar] of bars) {
      const file = join(folder, `${cells}.yaml`)
      writeFileSync(file, study(cells))
      spawnSync(process.execPath, [main, "run", file, "--jobs", "16"], { env })
      const value = best([main, "run", file], env)
      walls.set(cells, value)
      rows.push({ what: `run of ${cells} cached cells`, value, unit: "s", bar, limit, better: "lower" })
    }
    const further = ((walls.get(10_000)! - walls.get(100)!) / 9_900) * 1e6
    rows.push({
      what: "each further cached cell",
      value: further,
      unit: "us",
      bar: 80,
      limit: hashing(),
      better: "lower",
    })
    return rows
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
