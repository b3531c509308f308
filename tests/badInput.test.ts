/** Bad input of every kind, through the command line: the exit code, and one sentence that says what is wrong and where. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { appendFileSync } from "node:fs"
import { join } from "node:path"
import * as Bad from "./support/badInputs.ts"
import { assay, type Ended } from "./support/cli.ts"
import { folder, write } from "./support/folder.ts"

/** With a file's name here, everything that was said is added to it. */
const LISTING = process.env["ASSAY_BAD_INPUTS"]
const list = (wrong: string, { code, said }: Ended, line: string | undefined) => {
  if (LISTING)
    appendFileSync(LISTING, `${wrong}\n    exit ${code}: ${line ?? said.trim().replaceAll("\n", "\n    ")}\n`)
}
/** What a bug looks like; a mistake of the user's never does. */
const BUG = /\n\s+at |undefined|\[object Object\]|TypeError|RangeError/

const groups = { reading: Bad.reading, naming: Bad.naming, checkpoints: Bad.checkpoints }
for (const [group, cases] of Object.entries(groups)) {
  describe(group, () => {
    for (const [name, { code, files, says, study }] of Object.entries(cases)) {
      it.live(`${name}: ${Object.keys(says).join(", ")}`, () =>
        Effect.gen(function* () {
          const root = yield* folder
          if (group !== "reading") Bad.prepare(root)
          for (const [file, text] of Object.entries({ ...files, [`${name}.yaml`]: study })) write(root, file, text)
          const ended = yield* assay(root, ["run", `${name}.yaml`, "--keep-going", "--cache", join(root, "cache")])
          const lines = ended.said.split("\n")
          for (const [wrong, message] of Object.entries(says))
            list(
              wrong,
              ended,
              lines.find((line) => message.test(line)),
            )
          for (const [wrong, message] of Object.entries(says)) assert.match(ended.said, message, wrong)
          assert.notMatch(ended.said, BUG)
          assert.strictEqual(ended.code, code, ended.said)
        }),
      )
    }
  })
}
