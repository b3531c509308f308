/**
 * The same description gives the same bytes. The digests below are those of each golden checkpoint's block, plain, for
 * calibration, and quantized: a refactoring must not change them. Where a change of the graph is meant, the new digests
 * are in the failure, to be copied.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as Model from "../../src/compute/Model.ts"
import { plain } from "../../src/onnx/Block.ts"
import * as Family from "../../src/models/Family.ts"
import * as Capture from "../../src/onnx/Capture.ts"
import { fakeQuant } from "../../src/onnx/FakeQuant.ts"
import * as Golden from "../support/golden.ts"

const expected: { readonly [variant: string]: unknown } = JSON.parse(
  readFileSync(new URL("../golden/graphs.json", import.meta.url), "utf8"),
)
const fixed = { symmetric: false, range: "fixed" } as const
const modes = {
  plain: () => plain,
  capture: () => Capture.capture(true).hooks,
  quantized: () =>
    fakeQuant({
      activations: {
        "self_attn.q_proj": { kind: "dynamic", bits: 8, ...fixed },
        "mlp.down_proj": { kind: "static", bits: 4, ...fixed, scale: 0.125, zero: 7 },
      },
      keyValue: {
        keys: { bits: 4, ...fixed },
        values: { bits: 3, ...fixed, range: "compat" },
        group: 4,
        point: "after-rope",
      },
    }),
}

describe("graphs", () => {
  for (const variant of Golden.variants) {
    it.effect(variant, () =>
      Effect.gen(function* () {
        const model = yield* Golden.open(variant)
        const unit = Family.units(model.family, model.config)[0]!
        const digests = Object.entries(modes).map(([mode, hooks]) => {
          const { graph, key } = Model.unit(model, unit, hooks())
          const again = Model.unit(model, unit, hooks())
          assert.deepStrictEqual(new Uint8Array(again.graph), new Uint8Array(graph))
          assert.strictEqual(again.key, key)
          return [mode, key] as const
        })
        assert.strictEqual(new Set(digests.map(([, key]) => key)).size, digests.length)
        assert.isTrue(Model.embedding(model).key === Model.embedding(model).key)
        assert.isTrue(Model.scoring(model, model).key === Model.scoring(model, model).key)
        assert.strictEqual(
          Model.unit(model, unit, Model.unitHooks(model, unit)).key,
          Model.unit(model, unit, plain).key,
        )
        assert.deepStrictEqual(Object.fromEntries(digests), expected[variant])
      }),
    )
  }
})
