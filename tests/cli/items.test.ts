/** `assay results --items`: what a model was asked, as it was given it, and what it said. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { join } from "node:path"
import { assay } from "../support/cli.ts"
import { folder, write } from "../support/folder.ts"

const STUDY = `study: items
stages:
  base: { use: load, source: "bundled:tiny" }
  score: { use: evaluate, model: $base, task: tiny-dialogue, limit: 3 }
`

it.effect(
  "every item of a cell as a line of JSON, its prompts by the chat template",
  () =>
    Effect.gen(function* () {
      const root = yield* folder
      const file = write(root, "study.yaml", STUDY)
      const call = (...args: ReadonlyArray<string>) => assay(root, [...args, "--cache", join(root, "cache")])
      const early = yield* call("results", file, "--items", "score")
      assert.strictEqual(early.code, 2)
      assert.match(early.said, /^score is not in the cache; assay run .* computes it/)
      assert.strictEqual((yield* call("run", file)).code, 0)
      const { code, said } = yield* call("results", file, "--items", "score")
      assert.strictEqual(code, 0)
      const items = said
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line))
      assert.strictEqual(items.length, 3)
      for (const { turns } of items) {
        const [first, second] = turns
        assert.match(first.prompt, /^<s>User: [^\n]+\nBot:$/)
        assert.isTrue(second.prompt.startsWith(`${first.prompt}${first.said}\nUser: `), second.prompt)
        assert.isTrue(second.prompt.endsWith("\nBot:"))
      }
    }),
  60_000,
)

it.effect(
  "scores without a table are shown as they are",
  () =>
    Effect.gen(function* () {
      const root = yield* folder
      const file = write(root, "study.yaml", STUDY.replace("limit: 3", "limit: 2, matrix: { chat: [true] }"))
      const call = (...args: ReadonlyArray<string>) => assay(root, [...args, "--cache", join(root, "cache")])
      const none = yield* call("results", file)
      assert.deepStrictEqual([none.code, none.said], [2, "none of these is in the cache\n"])
      assert.match((yield* call("results", file, "--only", "base")).said, /neither tables nor scores among these/)
      assert.match((yield* call("run", file)).said, /^Scores\nValues\.$[^]* exact\n-+\n.* [01]\.\d+$/m)
      assert.match((yield* call("results", file, "--csv")).said, /^score.*,tiny-dialogue,exact_match,/m)
    }),
  60_000,
)
