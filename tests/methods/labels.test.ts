/** Every method in the folder: the parameters of a label and the label of parameters are inverse to each other. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { isMethod, type Any } from "../../src/methods/Method.ts"

const folder = new URL("../../src/methods/", import.meta.url)
const methods = new Map<string, Any>()
for (const file of Fs.readdirSync(folder).filter((name) => /^[a-z].*\.ts$/.test(name))) {
  const module: { readonly default: unknown } = await import(new URL(file, folder).href)
  assert.isTrue(isMethod(module.default), file)
  methods.set(file.slice(0, -3), module.default as Any)
}

/** A few values per field, by name; a field no method has had before must be added here. */
const samples: { readonly [field: string]: ReadonlyArray<unknown> } = {
  bits: [1, 2, 3, 4, 5, 6, 7, 8],
  keys: [undefined, 2, 8],
  values: [undefined, 3, 4],
  group: [1, 16, 64, 100, 128, 999_999, "channel", "tensor", "head"],
  symmetric: [false, true],
  range: ["fixed", "compat"],
  point: ["after-rope", "before-rope"],
}

const schemaOf = (method: Any): Schema.Codec<any, unknown> => Schema.Struct(method.params as any) as any

const combinations = (fields: ReadonlyArray<string>): ReadonlyArray<{ readonly [field: string]: unknown }> =>
  fields.reduce<ReadonlyArray<{ readonly [field: string]: unknown }>>(
    (all, field) =>
      all.flatMap((some) =>
        samples[field]!.map((value) => (value === undefined ? some : Object.assign({ [field]: value }, some))),
      ),
    [{}],
  )

const labelled = [
  ["rtn", "w4-g64", { bits: 4, group: 64 }],
  ["rtn", "w8-channel", { bits: 8, group: "channel" }],
  ["rtn", "w2-tensor", { bits: 2, group: "tensor" }],
  ["rtn", "w4-g128", { bits: 4 }],
  ["rtn", "w4-g64-sym", { bits: 4, group: 64, symmetric: true }],
  ["rtn", "w4-g64-compat", { bits: 4, group: 64, range: "compat" }],
  ["dynamic", "a8", { bits: 8 }],
  ["dynamic", "a4-sym-compat", { bits: 4, symmetric: true, range: "compat" }],
  ["static", "a8-static", { bits: 8 }],
  ["token", "kv4", { bits: 4 }],
  ["token", "kv4-g16", { bits: 4, group: 16 }],
  ["token", "kv4-k8", { bits: 4, keys: 8 }],
  ["token", "kv4-g16-pre-sym", { bits: 4, group: 16, symmetric: true, point: "before-rope" }],
  ["channel", "kv4-channel", { bits: 4 }],
  ["channel", "kv4-channel-k8-v3-pre", { bits: 4, keys: 8, values: 3, point: "before-rope" }],
  ["state", "s8", { bits: 8 }],
  ["state", "s4-g8", { bits: 4, group: 8 }],
  ["state", "s8-sym", { bits: 8, symmetric: true }],
  ["token", "kv4-k8-v2-g16-compat", { bits: 4, keys: 8, values: 2, group: 16, range: "compat" }],
] as const

const strangers = [
  "",
  "w4",
  "w0-g64",
  "w9-g64",
  "w4-g0",
  "w4-g064",
  "w4-g1000000",
  "w4-g-64",
  "w4-g64-",
  "w4-g64-sym-sym",
  "w4-g64-compat-sym",
  " w4-g64",
  "w4-g64\n",
  "W4-g64",
  "w4-head",
  "a1",
  "a16",
  "a8-g64",
  "a8-static-g1",
  "kv1",
  "kv4-g0",
  "kv4-v2-k8",
  "kv4-tensor",
  "kv4-head",
  "s1",
  "s9",
  "s4-g0",
  "s4-channel",
  "s4-sym-g8",
  "none",
]

describe("labels", () => {
  for (const [name, method] of methods) {
    const params = schemaOf(method)
    it.effect(name, () =>
      Effect.gen(function* () {
        const seen = new Set<string>()
        for (const raw of combinations(Object.keys(method.params))) {
          const decoded = yield* Effect.option(Schema.decodeUnknownEffect(params)(raw))
          if (Option.isNone(decoded)) continue
          const label = method.label(decoded.value)
          assert.deepStrictEqual(method.parse(label), decoded.value, label)
          assert.isFalse(seen.has(label), `${label} names two settings`)
          seen.add(label)
          const others = [...methods].filter(([other, { parse }]) => other !== name && parse(label) !== undefined)
          assert.deepStrictEqual(others, [], `${label} is also a label of another method`)
        }
        assert.isAbove(seen.size, 10)
      }),
    )
  }

  for (const [name, label, params] of labelled) {
    it.effect(label, () =>
      Effect.gen(function* () {
        const method = methods.get(name)!
        const decoded = yield* Schema.decodeUnknownEffect(schemaOf(method))(params)
        assert.strictEqual(method.label(decoded), label)
        assert.deepStrictEqual(method.parse(label), decoded)
      }),
    )
  }

  it("nothing else parses", () => {
    for (const text of strangers)
      for (const [name, { parse }] of methods) assert.isUndefined(parse(text), `${name}: ${text}`)
  })
})
