import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Reference from "../../src/hub/Reference.ts"

const COMMIT = "0123456789abcdef0123456789abcdef01234567"

describe("a reference", () => {
  const good: ReadonlyArray<readonly [text: string, kind: string, name: string, revision: string, file?: string]> = [
    ["hub:gpt2", "model", "gpt2", "main"],
    ["hub:HuggingFaceTB/SmolLM2-135M", "model", "HuggingFaceTB/SmolLM2-135M", "main"],
    ["hub:a/b.c_d-e@v1.0", "model", "a/b.c_d-e", "v1.0"],
    [`hub:a/b@${COMMIT}`, "model", "a/b", COMMIT],
    ["hub:a/b@refs/pr/1", "model", "a/b", "refs/pr/1"],
    ["hub:a/b#q4.gguf", "model", "a/b", "main", "q4.gguf"],
    ["hub:a/b@main#sub/q4-00001-of-00002.gguf", "model", "a/b", "main", "sub/q4-00001-of-00002.gguf"],
    ["hub-data:allenai/ai2_arc", "dataset", "allenai/ai2_arc", "main"],
    ["hub-data:squad@refs/convert/parquet", "dataset", "squad", "refs/convert/parquet"],
  ]
  for (const [text, kind, name, revision, file] of good) {
    it.effect(`is ${text}`, () =>
      Effect.gen(function* () {
        assert.isTrue(Reference.isReference(text))
        assert.deepStrictEqual<unknown>(yield* Reference.parse(text), { kind, name, revision, file })
      }),
    )
  }

  it.effect("is shown with its revision", () =>
    Effect.gen(function* () {
      assert.strictEqual(Reference.show(yield* Reference.parse("hub:a/b#x.gguf")), "hub:a/b@main")
      assert.strictEqual(Reference.show(yield* Reference.parse("hub-data:b@v1")), "hub-data:b@v1")
    }),
  )

  const bad: ReadonlyArray<readonly [text: string, message: RegExp]> = [
    ["dir:x", /'dir:x' names no hub; write hub:owner\/name@revision/],
    ["hub:", /not a name of letters/],
    ["hub:a/b/c", /more than one '\/'/],
    ["hub:../x", /may not contain '--' or '\.\.'/],
    ["hub:a--b", /may not contain '--'/],
    ["hub:a/b.git", /end in '.git'/],
    ["hub:.a/b", /not a name/],
    ["hub:a/b-", /not a name/],
    ["hub:a/b c", /not a name/],
    ["hub:a\\b", /not a name/],
    ["hub:a/é", /not a name/],
    [`hub:a/${"b".repeat(97)}`, /not a name/],
    ["hub:a/b\n", /not a name/],
    ["hub:a/b?x", /not a name/],
    ["hub:a/b@", /no name of a branch/],
    ["hub:a/b@..", /no name of a branch/],
    ["hub:a/b@x/../y", /no name of a branch/],
    ["hub:a/b@/x", /no name of a branch/],
    ["hub:a/b@x//y", /no name of a branch/],
    ["hub:a/b@x/.y", /no name of a branch/],
    ["hub:a/b@-x", /no name of a branch/],
    ["hub:a/b@x.lock", /no name of a branch/],
    ["hub:a/b@x y", /no name of a branch/],
    ["hub:a/b@x\\y", /no name of a branch/],
    ["hub:a/b@x\n", /no name of a branch/],
    ["hub:a/b#", /names the file ''/],
    ["hub:a/b#../x.gguf", /names the file '..\/x.gguf'/],
    ["hub:a/b#/x.gguf", /names the file/],
    ["hub:a/b#x.gguf#y.gguf", /names the file 'x.gguf#y.gguf'/],
    ["hub:a/b#model.bin", /only a .gguf file is chosen by name/],
    ["hub-data:a/b#x.gguf", /config and split say/],
  ]
  for (const [text, message] of bad) {
    it.effect(`is not ${JSON.stringify(text).slice(0, 40)}`, () =>
      Effect.map(Effect.flip(Reference.parse(text)), (error) => assert.match(error.message, message)),
    )
  }
})
