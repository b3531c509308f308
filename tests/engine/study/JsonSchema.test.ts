import { assert, describe, it } from "@effect/vitest"
import { Ajv2020 } from "ajv/dist/2020.js"
import * as Effect from "effect/Effect"
import { parse } from "yaml"
import * as JsonSchema from "../../../src/engine/study/JsonSchema.ts"
import * as Registry from "../../../src/engine/plan/Registry.ts"
import { toys } from "../Studies.ts"

const validator = Effect.map(JsonSchema.make(Registry.load<never>(toys)), (schema) => {
  const validate = new Ajv2020({ strict: false, allErrors: true }).compile(schema)
  return (yaml: string) =>
    validate(parse(yaml)) ? [] : [...new Set(validate.errors!.map((error) => `${error.instancePath} ${error.message}`))]
})
const HEAD = "study: t\nstages:\n  a: { use: amount, value: 3 }\n"

describe("accepts", () => {
  const good: { readonly [name: string]: string } = {
    "a whole study": `${HEAD}  q:
    use: round
    of: $a
    scale: none
    kv: { bits: 4 }
    batch: 3
    matrix: { weights: [none, { bits: 4, name: small }, "\${w}"], shift: "\${shifts}" }
    exclude: [{ weights: none, kv: anything }]
    include: [{ weights: { bits: 2, group: "\${g}" } }]
  s: { use: judge, matrix: { model: [$a, $q] }, task: "\${t}" }
  t: { use: tabulate, scores: [$s, $r] }
`,
    "variables for anything": `${HEAD.replace("3", '"${n}"')}  q: { use: "\${kind}", of: "\${of}" }\n`,
    "the head":
      "study: t\nseed: 3\ndescription: d\nvars: { a: [1] }\ninclude: [x.yaml]\nstages: { a: { use: amount, value: 3 } }\n",
  }
  for (const [name, yaml] of Object.entries(good)) {
    it.effect(name, () => Effect.map(validator, (check) => assert.deepStrictEqual(check(yaml), [])))
  }
})

describe("underlines", () => {
  const bad: ReadonlyArray<readonly [name: string, yaml: string, error: string]> = [
    ["an unknown stage", `${HEAD}  q: { use: rond }`, "/stages/q/use must be equal to constant"],
    [
      "an unknown parameter",
      `${HEAD}  q: { use: judge, model: $a, tusk: x, task: y }`,
      "/stages/q must NOT have additional properties",
    ],
    [
      "a wrong value",
      `${HEAD}  q: { use: round, of: $a, weights: { bits: 3 } }`,
      "/stages/q/weights/bits must be equal to one of the allowed values",
    ],
    [
      "a value where a reference belongs",
      `${HEAD}  q: { use: judge, model: a, task: y }`,
      '/stages/q/model must match pattern "^\\$[A-Za-z_][A-Za-z0-9_-]*$"',
    ],
    ["a missing parameter", `${HEAD}  q: { use: judge, model: $a }`, "/stages/q must have required property 'task'"],
    [
      "an axis that is none",
      `${HEAD}  q: { use: round, of: $a, matrix: { batch: [1] } }`,
      "/stages/q/matrix must NOT have additional properties",
    ],
    [
      "a wrong value on an axis",
      `${HEAD}  q: { use: round, of: $a, matrix: { weights: [{ bits: 3 }] } }`,
      "/stages/q/matrix/weights/0/bits must be equal to one of the allowed values",
    ],
    [
      "a reference twice",
      `${HEAD}  q: { use: tabulate, scores: [$s, $s] }`,
      "/stages/q/scores must NOT have duplicate items (items ## 0 and 1 are identical)",
    ],
    [
      "an empty sweep",
      `${HEAD}  q: { use: round, of: $a, matrix: {} }`,
      "/stages/q/matrix must NOT have fewer than 1 properties",
    ],
    [
      "an axis of include that is none",
      `${HEAD}  q: { use: round, of: $a, include: [{ batch: 1 }] }`,
      "/stages/q/include/0 must NOT have additional properties",
    ],
    ["an unknown key at the top", `stage: {}\n${HEAD}`, " must NOT have additional properties"],
    ["a study without a name", HEAD.replace("study: t\n", ""), " must have required property 'study'"],
  ]
  for (const [name, yaml, error] of bad) {
    it.effect(name, () => Effect.map(validator, (check) => assert.include(check(yaml), error)))
  }
})

it.effect("carries the descriptions of stages and parameters", () =>
  Effect.gen(function* () {
    const { $defs } = (yield* JsonSchema.make(Registry.load<never>(toys))) as any
    assert.strictEqual($defs["stage.amount"].properties.use.description, "a number")
    assert.strictEqual($defs["stage.amount"].properties.value.description, "the number itself")
  }),
)
