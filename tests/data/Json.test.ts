import { assert, describe, it } from "@effect/vitest"
import * as Json from "../../src/data/Json.ts"

describe("parse", () => {
  it("gives what JSON.parse gives", () => {
    for (const text of [
      "1",
      "null",
      '"a"',
      '{"a":{"a":[{"a":1},{"a":2}]},"b":"{"}',
      '["a","a"]',
      '{"a":"a:","a:":":"}',
    ])
      assert.deepStrictEqual(Json.parse(text), { value: JSON.parse(text) })
  })

  it("says what is wrong", () => {
    assert.match((Json.parse("{") as { problem: string }).problem, /^is not JSON: /)
    const twice = { problem: 'names "a" twice' }
    assert.deepStrictEqual(Json.parse('{"a":1,"a":1}'), twice)
    assert.deepStrictEqual(Json.parse('{"a" :1,"b":{"a":2},\n"\\u0061"\t\r\n :1}'), twice)
    assert.deepStrictEqual(Json.parse('{"x":[{"a":1},{"a":1,"b":"}","a":2}]}'), twice)
    assert.deepStrictEqual(Json.parse('{"\\"\\\\":1,"\\"\\\\":1}'), { problem: 'names "\\"\\\\" twice' })
  })

  it("does not mind how long a string is", () => {
    for (const long of ["x", "\\n", '\\"', "\\\\"].map((part) => part.repeat(3_000_000)))
      assert.property(Json.parse(`{"${long}":"${long}"}`), "value")
  })
})
