import { assert, it } from "@effect/vitest"
import { references } from "../../../src/engine/run/Output.ts"

it("the blobs of a document are found however long its lists are", () => {
  const blob = "a".repeat(64)
  const file = "b".repeat(64)
  const rows = Array.from({ length: 300_000 }, (_, n) => ({ n }))
  const document = { rows: [...rows, { blob, bytes: 1 }, { blob, bytes: 1, within: { file, offset: 0 } }] }
  assert.deepStrictEqual(references(document), { blobs: [blob], files: [file] })
})
