/** A process that looks at an LMDB file until it is told to end, and says what it found wrong: `node inspect.ts <file>`. */
import { writeSync } from "node:fs"
import { damage } from "../../../src/engine/store/LmdbFile.ts"

const found = new Set<string>()
const state = { looking: true }
process.on("SIGTERM", () => {
  state.looking = false
})
writeSync(1, "ready\n")
while (state.looking) {
  for (let look = 0; look < 200; look++) {
    const wrong = damage(process.argv[2]!)
    if (wrong !== undefined) found.add(wrong)
  }
  await new Promise((resolve) => setImmediate(resolve))
}
writeSync(1, [...found].join("\n"))
