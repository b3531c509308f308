/**
 * Rotary position tables (Su et al. 2021), with the frequency scalings of Hugging Face transformers
 * (`modeling_rope_utils.py`) and its float32 arithmetic: pair i of a rotated dim D turns by position * f_i, where
 *
 *     default   f_i = theta^(-2i/D)
 *     linear    f_i / factor
 *     dynamic   theta grows with the sequence once it is longer than the context (NTK-aware)
 *     llama3    f_i / factor for wavelengths beyond context / low, f_i below context / high, a blend between
 *     yarn      f_i / factor for slow pairs, f_i for fast ones, a ramp over i between (Peng et al. 2023)
 *     longrope  f_i / short_i up to the original context, f_i / long_i for longer sequences (Ding et al. 2024)
 *
 * The last two also multiply cos and sin by a scale, so that attention is as sharp as at the original context.
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
  | {
      readonly type: "yarn"
      readonly theta: number
      readonly factor: number
      readonly originalContext: number
      /** Pairs that turn this often over the original context, or more, keep their frequency. */
      readonly betaFast: number
      /** Pairs that turn this often, or less, are slowed by the whole factor. */
      readonly betaSlow: number
      /** Does the ramp between them begin and end at whole pairs? */
      readonly truncate: boolean
      readonly scale: number
    }
  | {
      readonly type: "longrope"
      readonly theta: number
      /** Divisors, one for each pair. */
      readonly short: ReadonlyArray<number>
      readonly long: ReadonlyArray<number>
      readonly originalContext: number
      readonly scale: number
    }

const f32 = Math.fround

/** theta^(2i/dim), i = 0 … dim/2 - 1, every step in float32. */
const periods = (theta: number, dim: number): Float32Array => {
  const base = f32(theta)
  return Float32Array.from({ length: dim / 2 }, (_, i) => base ** f32((2 * i) / dim))
}
const frequencies = (theta: number, dim: number): Float32Array => periods(theta, dim).map((period) => 1 / period)

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
    case "yarn":
      return yarn(rope, dim)
    case "longrope": {
      const divisors = length > rope.originalContext ? rope.long : rope.short
      if (divisors.length !== dim / 2) throw new RangeError(`${divisors.length} divisors for ${dim / 2} pairs`)
      return periods(rope.theta, dim).map((period, i) => 1 / f32(f32(divisors[i]!) * period))
    }
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

const yarn = (rope: Extract<Rope, { readonly type: "yarn" }>, dim: number): Float32Array => {
  /** The pair, as a fraction, that turns so often over the original context. */
  const turning = (often: number) =>
    (dim * Math.log(rope.originalContext / (often * 2 * Math.PI))) / (2 * Math.log(rope.theta))
  const [fast, slow] = [turning(rope.betaFast), turning(rope.betaSlow)]
  const low = Math.max(rope.truncate ? Math.floor(fast) : fast, 0)
  const high = Math.min(rope.truncate ? Math.ceil(slow) : slow, dim - 1)
  const span = low === high ? 0.001 : high - low
  return periods(rope.theta, dim).map((period, i) => {
    const ramp = Math.min(Math.max(f32(f32(i - f32(low)) / f32(span)), 0), 1)
    const kept = f32(1 - ramp)
    const slowed = 1 / f32(f32(rope.factor) * period)
    return f32(f32(slowed) * f32(1 - kept)) + f32(f32(1 / period) * kept)
  })
}

/** cos and sin of every position's angles, 0 … length-1, times the scale: each [length, dim / 2]. */
export const tables = (rope: Rope, dim: number, length: number) => {
  const turn = inverseFrequencies(rope, dim, length)
  const cos = new Float32Array(length * turn.length)
  const sin = new Float32Array(length * turn.length)
  const scale = "scale" in rope ? f32(rope.scale) : 1
  for (let position = 0, o = 0; position < length; position++) {
    for (let i = 0; i < turn.length; i++, o++) {
      const angle = f32(position * turn[i]!)
      cos[o] = f32(Math.cos(angle)) * scale
      sin[o] = f32(Math.sin(angle)) * scale
    }
  }
  const table = (values: Float32Array) => ({ columns: turn.length, values })
  return { cos: table(cos), sin: table(sin) }
}
