/** The rows of a task's data. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Data from "../../stages/Data.ts"
import { folder, write } from "../support/folder.ts"

it.effect("are read however many there are, file after file", () =>
  Effect.gen(function* () {
    const root = yield* folder
    const rows = (first: number, count: number) =>
      Array.from({ length: count }, (_, i) => `{"n":${first + i}}`).join("\n")
    const source = (name: string, text: string) => ({ path: write(root, name, text), digest: "" })
    const files = {
      "data.0000": source("a.jsonl", rows(0, 200_000)),
      "data.0001": source("b.jsonl", rows(200_000, 3)),
    }
    const all = yield* Data.read(files, undefined)
    assert.strictEqual(all.length, 200_003)
    assert.isTrue(all.every(({ n }, i) => n === i))
    assert.strictEqual((yield* Data.read(files, 200_001)).at(-1)!["n"], 200_000)
  }),
)
