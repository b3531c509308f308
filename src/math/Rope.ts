/**
 * Rotary position tables (Su et al. 2021), with the frequency scalings of Hugging Face transformers
 * (`modeling_rope_utils.py`) and its float32 arithmetic: pair i of a rotated dim D turns by position * f_i, where
 *
 *     default   f_i = theta^(-2i/D)
 *     linear    f_i / factor
 *     dynamic   theta grows with the sequence once it is longer than the context (NTK-aware)
 *     llama3    f_i / factor for wavelengths beyond context / low, f_i below context / high, a blend between
 */
export type Rope =
  | { readonly type: "default"; readonly theta: number }
  | { readonly type: "linear"; readonly theta: number; readonly factor: number }
  | { readonly type: "dynamic"; readonly theta: number; readonly factor: number; readonly context: number }
  | {
      readonly type: "llama3"
      readonly theta: number
      readonly factor: number
      readonly lowFrequencyFactor: number
      readonly highFrequencyFactor: number
      readonly originalContext: number
    }

const f32 = Math.fround

/** theta^(-2i/dim), i = 0 … dim/2 - 1, every step in float32. */
const frequencies = (theta: number, dim: number): Float32Array => {
  const base = f32(theta)
  return Float32Array.from({ length: dim / 2 }, (_, i) => 1 / f32(base ** f32((2 * i) / dim)))
}

/**
 * Radians per position of each pair, [dim / 2], for a sequence of `length`. `dim` is the rotated part of a head, an even
 * number; with a partial rotary factor it is smaller than the head.
 */
export const inverseFrequencies = (rope: Rope, dim: number, length: number): Float32Array => {
  if (!(dim > 0 && dim % 2 === 0)) throw new RangeError(`rotary positions need an even dim, not ${dim}`)
  switch (rope.type) {
    case "default":
      return frequencies(rope.theta, dim)
    case "linear":
      return frequencies(rope.theta, dim).map((f) => f / f32(rope.factor))
    case "dynamic": {
      const reached = Math.max(length, rope.context)
      const growth = f32(f32(f32(f32(rope.factor) * reached) / rope.context) - f32(rope.factor - 1))
      return frequencies(rope.theta * f32(growth ** (dim / (dim - 2))), dim)
    }
    case "llama3":
      return frequencies(rope.theta, dim).map((f) => llama3(rope, f))
  }
}

/** PyTorch divides a number by a tensor as number * (1 / tensor), which rounds twice. */
const over = (x: number, f: number): number => f32(f32(x) * f32(1 / f))

const llama3 = (rope: Extract<Rope, { readonly type: "llama3" }>, f: number): number => {
  const { lowFrequencyFactor: low, highFrequencyFactor: high, originalContext: context } = rope
  const factor = f32(rope.factor)
  const wavelength = over(2 * Math.PI, f)
  if (wavelength > f32(context / low)) return f / factor
  if (wavelength < f32(context / high)) return f
  const blend = f32(f32(over(context, wavelength) - f32(low)) / f32(high - low))
  return f32(f32(f32(1 - blend) * f) / factor) + f32(blend * f)
}

/** cos and sin of every position's angles, 0 … length-1: each [length, dim / 2]. */
export const tables = (rope: Rope, dim: number, length: number) => {
  const turn = inverseFrequencies(rope, dim, length)
  const cos = new Float32Array(length * turn.length)
  const sin = new Float32Array(length * turn.length)
  for (let position = 0, o = 0; position < length; position++) {
    for (let i = 0; i < turn.length; i++, o++) {
      const angle = f32(position * turn[i]!)
      cos[o] = Math.cos(angle)
      sin[o] = Math.sin(angle)
    }
  }
  const table = (values: Float32Array) => ({ columns: turn.length, values })
  return { cos: table(cos), sin: table(sin) }
}
