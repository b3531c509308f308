/** A random checkpoint for any family: its tensors are those its outline asks for. */
import * as Effect from "effect/Effect"
import { join } from "node:path"
import { encode, type Tensor } from "../../src/data/SafetensorsWriter.ts"
import * as Random from "../../src/math/Random.ts"
import type { Outline } from "../../src/models/Family.ts"
import { write } from "./folder.ts"

/** Small enough weights for finite numbers, large enough for them to differ; vectors are around 1, as gains are. */
export const tensors = ({ catalog }: Outline, seed: bigint): { readonly [name: string]: Tensor } => {
  const random = Random.make(seed)
  return Object.fromEntries(
    [...catalog].map(([name, shape]) => {
      const around = shape.length === 1 ? 1 : 0
      const values = Float32Array.from(
        { length: shape.reduce((n, d) => n * d, 1) },
        () => around + 0.6 * (random.uniform() - 0.5),
      )
      return [name, { dtype: "F32", shape, data: new Uint8Array(values.buffer) }]
    }),
  )
}

/** config.json and model.safetensors in `root`. */
export const checkpoint = (root: string, config: object, outline: Outline): Effect.Effect<string> =>
  Effect.sync(() => {
    write(root, "config.json", JSON.stringify(config))
    return write(root, join("model.safetensors"), encode(tensors(outline, 9n)))
  })
