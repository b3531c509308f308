/** What every method in `src/methods` keeps to. Labels are tested in `tests/methods/labels.test.ts` for chosen values; here for any. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Format, isFormat } from "../../src/formats/Format.ts"
import * as Random from "../../src/math/Random.ts"
import {
  ActivationQuantizer,
  type Any,
  isMethod,
  KvQuantizer,
  StateQuantizer,
  Statistic,
} from "../../src/methods/Method.ts"
import { isDescription, modules } from "../support/plugins.ts"

const methods = (await modules("src/methods")).map(({ name, value }) => ({ name, method: value as Any }))
const formats = new Map((await modules("src/formats")).map(({ name, value }) => [name, value as Format<any>]))

const random = Random.make(2n)
const matrix = (rows: number, cols: number) =>
  Float32Array.from({ length: rows * cols }, () => random.uniform() * 2 - 1)
const SHAPE = { rows: 6, cols: 48 }

/** Statistics of a linear with so many inputs. */
const statistics = (wants: ReadonlyArray<Statistic>, channels: number) => {
  const spread = matrix(1, channels).map(Math.abs)
  const all: { readonly [S in Statistic]: Float32Array } = {
    min: spread.map((x) => -x),
    max: spread,
    absmax: spread,
    mean: spread.map((x) => x / 10),
    meanSquare: spread.map((x) => x * x + 0.1),
    gram: Float32Array.from({ length: channels ** 2 }, (_, i) =>
      i % (channels + 1) === 0 ? 1 + spread[i % channels]! : 0,
    ),
  }
  return Object.fromEntries(wants.map((name) => [name, all[name]]))
}

describe("methods", () => {
  it("there are some, for each slot", () => {
    assert.deepStrictEqual([...new Set(methods.map(({ method }) => method.slot))].toSorted(), [
      "activations",
      "kv",
      "state",
      "weights",
    ])
  })
  for (const { name, method } of methods) {
    describe(name, () => {
      const params = Schema.Struct(method.params) as unknown as Schema.Codec<any, any>

      it("has the shape of a method", () => {
        assert.isTrue(isMethod(method))
        assert.isTrue(isDescription(method.description), method.description)
        assert.isTrue(Number.isInteger(method.version) && method.version > 0)
        for (const statistic of method.wants) assert.include(Statistic.literals, statistic)
        assert.include(["weights", "activations", "kv", "state"], method.slot)
        const own = method.slot === "weights" ? ["plan", "apply"] : ["quantizer"]
        for (const part of own) assert.isFunction((method as any)[part])
      })

      it.effect.prop("the label of any parameters gives them back", [params], ([value]) =>
        Effect.sync(() => {
          const label = method.label(value)
          assert.match(label, /^[a-z0-9-]+$/)
          assert.deepStrictEqual(method.parse(label), value)
        }),
      )

      it.effect("gives what its slot promises", () =>
        Effect.gen(function* () {
          const decoded = yield* Schema.decodeUnknownEffect(params)({
            bits: 4,
            ...(method.slot === "weights" && { group: 16 }),
          })
          if (method.slot === "activations") {
            const quantizer = method.quantizer(decoded, statistics(method.wants, SHAPE.cols) as never)
            assert.deepStrictEqual(
              yield* Schema.decodeUnknownEffect(ActivationQuantizer)(JSON.parse(JSON.stringify(quantizer))),
              quantizer,
            )
          } else if (method.slot === "kv") {
            yield* method.plan(decoded, 16)
            const quantizer = method.quantizer(decoded, 16, statistics(method.wants, 16) as never)
            assert.deepStrictEqual(
              yield* Schema.decodeUnknownEffect(KvQuantizer)(JSON.parse(JSON.stringify(quantizer))),
              quantizer,
            )
            assert.strictEqual(16 % quantizer.group, 0)
          } else if (method.slot === "state") {
            const quantizer = yield* method.quantizer(decoded, 16)
            assert.deepStrictEqual(
              yield* Schema.decodeUnknownEffect(StateQuantizer)(JSON.parse(JSON.stringify(quantizer))),
              quantizer,
            )
            assert.strictEqual(16 % quantizer.group, 0)
          } else {
            const storage = yield* method.plan(decoded, { tensor: "w", ...SHAPE })
            const format = formats.get(storage.format)
            assert.isTrue(isFormat(format), storage.format)
            assert.deepStrictEqual(JSON.parse(JSON.stringify(storage.params)), storage.params)
            const weights = matrix(SHAPE.rows, SHAPE.cols)
            const before = weights.slice()
            const encoded = method.apply(decoded, weights, SHAPE, statistics(method.wants, SHAPE.cols) as never)
            assert.deepStrictEqual(weights, before, "the weights are left as they are")
            const sizes = format!.sizes(SHAPE, storage.params)
            for (const part of ["codes", "scales", "zeros"] as const)
              assert.strictEqual(encoded[part].length, sizes[part], part)
            const out = new Float32Array(weights.length)
            format!.decodeRows(encoded, SHAPE, storage.params, 0, SHAPE.rows, out)
            const error = out.reduce((sum, x, i) => sum + (x - weights[i]!) ** 2, 0)
            const power = weights.reduce((sum, x) => sum + x * x, 0)
            // Four bits of a uniform signal: about 24 dB.
            assert.isBelow(error / power, 0.02)
            assert.deepStrictEqual(
              method.apply(decoded, weights, SHAPE, statistics(method.wants, SHAPE.cols) as never).codes.length,
              sizes.codes,
            )
          }
        }),
      )
    })
  }
})
