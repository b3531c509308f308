import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import int from "../../src/formats/int.ts"
import { IndivisibleGroup, TooFewBits } from "../../src/methods/Method.ts"
import rtn from "../../src/methods/rtn.ts"

const decode = Schema.decodeUnknownEffect(Schema.Struct(rtn.params))
const base = { bits: 4, group: 128, symmetric: false, range: "fixed" } as const

describe("rtn", () => {
  it.effect("fills in what the YAML leaves out", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* decode({ bits: 4 }), base)
      for (const wrong of [{}, { bits: 0 }, { bits: 9 }, { bits: 4.5 }, { bits: 4, group: 0 }, { bits: 4, range: "x" }])
        assert.isTrue(Exit.isFailure(yield* Effect.exit(decode(wrong))))
    }),
  )

  it.effect("plans how a tensor is stored", () =>
    Effect.gen(function* () {
      const storage = yield* rtn.plan(base, { tensor: "w", rows: 4, cols: 256 })
      assert.deepStrictEqual(storage, { format: "int", params: base })
    }),
  )

  it.effect("a group that does not divide is an error that names its neighbours", () =>
    Effect.gen(function* () {
      const target = { tensor: "model.layers.0.mlp.up_proj.weight", rows: 4, cols: 4544 }
      const error = yield* Effect.flip(rtn.plan(base, target))
      assert.deepStrictEqual(
        error,
        new IndivisibleGroup({ tensor: target.tensor, length: 4544, group: 128, nearest: [64, 71, 142, 284] }),
      )
      assert.strictEqual(
        error.message,
        "model.layers.0.mlp.up_proj.weight: rows of 4544 do not split into groups of 128; near it: 64, 71, 142, 284",
      )
      const wide = yield* Effect.flip(rtn.plan({ ...base, group: 6000 }, target))
      assert.deepStrictEqual((wide as IndivisibleGroup).nearest, [2272, 4544])
      for (const group of ["channel", "tensor", 64] as const) yield* rtn.plan({ ...base, group }, target)
    }),
  )

  it.effect("one bit has no symmetric grid", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        rtn.plan({ ...base, bits: 1, symmetric: true }, { tensor: "w", rows: 1, cols: 128 }),
      )
      assert.deepStrictEqual(error, new TooFewBits({ tensor: "w", bits: 1 }))
      yield* rtn.plan({ ...base, bits: 1 }, { tensor: "w", rows: 1, cols: 128 })
    }),
  )

  it("encodes as the int format does", () => {
    const weights = Float32Array.from({ length: 512 }, (_, i) => Math.sin(i * i))
    const shape = { rows: 2, cols: 256 }
    assert.deepStrictEqual(rtn.apply(base, weights, shape, {}), int.encode(weights, shape, base))
  })
})
