/** A process that judges cases, one after the other, and says when it begins one, so that its death has a seed. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { judge } from "./Judge.ts"

const root = mkdtempSync(join(tmpdir(), "fuzz-"))
process.on("exit", () => rmSync(root, { recursive: true, force: true }))
process.on("disconnect", () => process.exit())
process.on("message", async (seed: number) => {
  process.send!(await judge(seed, root))
})
