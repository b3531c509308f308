/** Rows in files that a data set calls JSON. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Items from "../../src/data/Items.ts"
import { folder, write } from "../support/folder.ts"

it.effect("a .json file may be JSON Lines", () =>
  Effect.gen(function* () {
    const root = yield* folder
    const read = (text: string) => Items.read(write(root, "test.json", text), undefined)
    const refused = (text: string) => Effect.map(Effect.flip(read(text)), ({ message }) => message)
    assert.deepStrictEqual(yield* read('[{"a":1},{"a":2}]'), [{ a: 1 }, { a: 2 }])
    assert.deepStrictEqual(yield* read('{"a":1}\n\n{"a":2}\r\n'), [{ a: 1 }, { a: 2 }])
    assert.match(yield* refused('{"a":1}'), /is not an array of JSON objects/)
    assert.match(yield* refused('{"a":1}\n[2]\n'), /test.json: is not JSON: /)
    assert.match(yield* refused('{"a":1}\n{"a":'), /test.json: is not JSON: /)
    assert.match(yield* refused("1\n2\n"), /test.json: is not JSON: /)
    assert.match(yield* refused(""), /test.json: is not JSON: /)
  }),
)
