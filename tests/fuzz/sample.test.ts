/** A sample of what `npm run fuzz` does with 10,000 cases, and that what cases start from is sound. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { folder, write } from "../support/folder.ts"
import * as Formats from "./Formats.ts"
import { run } from "./Runner.ts"

/** Of cases that once crashed, hung, or were refused without a word that helps. */
const ONCE = [20, 23, 33, 61, 113, 143, 180, 194, 213, 318, 579, 3464, 3972, 4423, 4451, 5633, 6231]

describe("what cases start from loads", () => {
  for (const [name, { files, run }] of Formats.sound) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const root = yield* folder
        for (const [file, bytes] of Object.entries(files)) write(root, file, bytes)
        assert.isDefined(yield* run(root))
      }),
    )
  }
})

describe("damaged files", () => {
  it.live("load or are refused with a sentence: 300 cases", () =>
    Effect.gen(function* () {
      const seeds = [...Array.from({ length: 300 - ONCE.length }, (_, i) => 20_000 + i), ...ONCE]
      const verdicts = yield* Effect.promise(() => run(seeds, 2))
      const offences = verdicts.filter(({ offence }) => offence !== undefined)
      assert.deepStrictEqual(
        offences.map(({ format, message, offence, seed }) => `${seed}, ${format}: ${offence}: ${message}`),
        [],
      )
      assert.strictEqual(new Set(verdicts.map(({ format }) => format)).size, Formats.formats.length)
      // Damage that is always seen, or never, would tell nothing.
      const loaded = verdicts.filter(({ outcome }) => outcome === "loaded").length
      assert.isAbove(loaded, 15)
      assert.isAbove(verdicts.length - loaded, 150)
    }),
  )
})
