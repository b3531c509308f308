/** Runs in a worker: a weight matrix through a method, and how far the result is from the original. */
import type { Encoded, Format, Shape } from "../formats/Format.ts"
import * as TensorError from "../math/TensorError.ts"
import type { Statistics, Weights } from "../methods/Method.ts"
import { expand, type Recipe } from "./Expand.ts"
import * as Slab from "./Slab.ts"

export interface QuantizeArgument {
  readonly recipe: Recipe
  readonly shape: Shape
  /** URLs of the method's and the format's modules. */
  readonly method: string
  readonly format: string
  readonly params: { readonly [name: string]: unknown }
  /** The format's own parameters. */
  readonly storage: unknown
  readonly statistics: Statistics<any>
}
export interface Quantized extends Encoded {
  readonly error: TensorError.TensorError
}

export const quantize = async ({ format, method, params, recipe, shape, statistics, storage }: QuantizeArgument) => {
  const weights = Slab.make("float32", [shape.rows, shape.cols])
  await expand({ recipe, out: weights })
  const original = Slab.floats(weights)
  const { default: how }: { default: Weights<any, any> } = await import(method)
  const encoded = how.apply(params, original, shape, statistics)
  const { default: stored }: { default: Format<unknown> } = await import(format)
  const reconstruction = new Float32Array(original.length)
  stored.decodeRows(encoded, shape, storage, 0, shape.rows, reconstruction)
  return {
    ...encoded,
    error: TensorError.summarize(TensorError.add(TensorError.NOTHING, original, reconstruction)),
  } satisfies Quantized
}
