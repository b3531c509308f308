/** A checkpoint folder as a runnable model, without the engine. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Model } from "../../src/compute/Model.ts"
import * as Checkpoint from "../../src/data/Checkpoint.ts"
import * as Safetensors from "../../src/data/Safetensors.ts"
import * as Family from "../../src/models/Family.ts"

export const open = (
  folder: string,
  family: Family.Family<any>,
  quantizers: Pick<Model<never>, "activations" | "keyValue"> = { activations: {}, keyValue: {} },
) =>
  Effect.gen(function* () {
    const weights = yield* Checkpoint.weights(yield* Checkpoint.listing(folder), folder)
    const config = yield* Schema.decodeUnknownEffect(family.config)(
      yield* Checkpoint.readObject(`${folder}/config.json`),
    )
    const outline = Family.outline(family, config)
    const entries = yield* Checkpoint.match(weights, yield* Checkpoint.catalog(weights), outline)
    const model: Model<never> = {
      family,
      config,
      shape: outline.shape,
      ...quantizers,
      recipe: (tensor) => {
        const { bytes, dtype, file, offset, shape, transforms } = entries.get(tensor)!
        const data = { path: file, offset, bytes }
        return Effect.succeed({ dims: shape, recipe: { kind: "plain", tensor, dtype, data, transforms } })
      },
    }
    return model
  })

/** Tensors of a safetensors file, as float32 or integers. */
export const tensors = (file: string) =>
  Effect.gen(function* () {
    const { readFileSync } = yield* Effect.promise(() => import("node:fs"))
    const catalog = yield* Safetensors.read(file)
    const bytes = readFileSync(file)
    return (name: string) => {
      const entry = catalog.get(name)
      if (!entry) throw new Error(`${file} has no ${name}`)
      const slice = bytes.buffer.slice(bytes.byteOffset + entry.offset, bytes.byteOffset + entry.offset + entry.bytes)
      const data = entry.dtype === "I32" ? new Int32Array(slice) : new Float32Array(slice)
      return { shape: entry.shape, data }
    }
  })
