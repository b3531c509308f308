/** A folder of its own for as long as a test's scope lasts. */
import * as Effect from "effect/Effect"
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"

export const folder = Effect.acquireRelease(
  Effect.sync(() => realpathSync(mkdtempSync(join(tmpdir(), "assay-")))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true })),
)

/** Writes a file below `root`, with the folders it needs; gives its path. */
export const write = (root: string, name: string, content: string | Uint8Array): string => {
  const file = join(root, name)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, content)
  return file
}
