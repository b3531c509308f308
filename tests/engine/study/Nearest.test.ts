import { assert, it } from "@effect/vitest"
import { nearest, suggest } from "../../../src/engine/study/Nearest.ts"

it("typing mistakes are near, other words are not", () => {
  const known = ["weights", "group", "method", "bits"]
  assert.deepStrictEqual(nearest("wieghts", known), ["weights"])
  assert.deepStrictEqual(nearest("grp", known), [])
  assert.deepStrictEqual(nearest("grup", known), ["group"])
  assert.deepStrictEqual(nearest("Bits", known), ["bits"])
  assert.deepStrictEqual(nearest("tokenizer", known), [])
  assert.deepStrictEqual(nearest("ab", ["ac", "abc", "xy", "bb", "b"]), ["ac", "abc", "bb"])
})

it("sentences", () => {
  assert.strictEqual(suggest("x", []), "there are none")
  assert.strictEqual(suggest("bit", ["bits", "bite"]), "did you mean 'bits' or 'bite'? known: bits, bite")
  const many = Array.from({ length: 25 }, (_, i) => `stage${i}`)
  assert.match(suggest("zzz", many), /^known: stage0, .*, stage19, and 5 more$/)
})
