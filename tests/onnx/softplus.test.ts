/** Softplus to float32's precision, relative to its value however small. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Slab from "../../src/compute/Slab.ts"
import { Block, plain } from "../../src/onnx/Block.ts"
import { run } from "../support/session.ts"

it.effect("softplus", () =>
  Effect.gen(function* () {
    const x = Float32Array.from({ length: 4001 }, (_, i) => (i - 2000) / 25)
    const b = new Block(plain)
    b.graph.output("y", b.softplus(b.graph.input("x", "float32", ["rows"])), "float32", ["rows"])
    const y = Slab.make("float32", [x.length])
    yield* run(b.graph, { x: Slab.of([x.length], x) }, { y })
    Slab.floats(y).forEach((actual, i) => {
      const expected = Math.max(x[i]!, 0) + Math.log1p(Math.exp(-Math.abs(x[i]!)))
      assert.approximately(actual / expected, 1, 5e-7, `${x[i]}`)
    })
  }),
)
