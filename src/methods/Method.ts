/**
 * A quantization method: what its parameters are, which statistics it wants, and what it makes of a weight, an
 * activation, a KV cache or a recurrent state. One file per method, named as YAML names it.
 *
 * A method for weights encodes them in a number format. Activations, the KV cache and states exist only while the model
 * runs, so a method for them describes a quantizer (plain data) that is placed in the graph.
 *
 * Every setting has a short name, its label (`w4-g64`, `a8`, `kv4-g16`), which says all of it: `parse` is the inverse
 * of `label`.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Encoded, Shape } from "../formats/Format.ts"

/** What calibration can observe of a site's input, per channel; `gram` is [channels, channels]. */
export const Statistic = Schema.Literals(["min", "max", "absmax", "mean", "meanSquare", "gram"])
export type Statistic = typeof Statistic.Type
export type Statistics<Wanted extends Statistic> = { readonly [S in Wanted]: Float32Array }

/** A grid of 2^bits points; see `math/Affine.ts`. */
export const Grid = Schema.Struct({
  bits: Schema.Int,
  symmetric: Schema.Boolean,
  /** Of an asymmetric grid. `fixed`: the range always contains 0. `compat`: it may not, as in the paper's code. */
  range: Schema.Literals(["fixed", "compat"]),
})
export type Grid = typeof Grid.Type

/** One scale and zero point per token, over all channels of the token itself. */
export const Dynamic = Schema.Struct({ kind: Schema.tag("dynamic"), ...Grid.fields })
/** One scale and zero point for the whole tensor, fixed beforehand. `zero` is 0 for a symmetric grid. */
export const Static = Schema.Struct({
  kind: Schema.tag("static"),
  ...Grid.fields,
  scale: Schema.Finite,
  zero: Schema.Int,
})
/** How the input of one linear is quantized while the model runs. */
export const ActivationQuantizer = Schema.Union([Dynamic, Static])
export type ActivationQuantizer = typeof ActivationQuantizer.Type

/** Where keys are quantized: as the product gives them, or turned by rotary positions, as they enter the cache. */
export const Point = Schema.Literals(["before-rope", "after-rope"])

/**
 * How K and V are quantized for the cache: one scale per token, head and `group` channels of the head; keys, where there
 * are `channels`, by a scale and a zero point of each channel of all heads, fixed beforehand.
 */
export const KvQuantizer = Schema.Struct({
  keys: Grid,
  values: Grid,
  group: Schema.Int,
  point: Point,
  channels: Schema.optionalKey(Schema.Struct({ scales: Schema.Array(Schema.Finite), zeros: Schema.Array(Schema.Int) })),
})
export type KvQuantizer = typeof KvQuantizer.Type

/** How a recurrent state is quantized after every token: one scale per channel and `group` numbers of its state. */
export const StateQuantizer = Schema.Struct({ ...Grid.fields, group: Schema.Int })
export type StateQuantizer = typeof StateQuantizer.Type

/** A group size that does not divide what it is to divide. Never skipped in silence. */
export class IndivisibleGroup extends Schema.TaggedError<IndivisibleGroup>()("IndivisibleGroup", {
  /** What was to be quantized: a tensor's name, the KV cache, or a state. */
  tensor: Schema.String,
  length: Schema.Int,
  group: Schema.Int,
  /** Group sizes near it that would do. */
  nearest: Schema.Array(Schema.Int),
}) {
  override get message() {
    return `${this.tensor}: rows of ${this.length} do not split into groups of ${this.group}; near it: ${this.nearest.join(", ")}`
  }
}

/** Symmetric codes are -2^(b-1)+1 … 2^(b-1)-1, which is nothing but 0 for one bit. */
export class TooFewBits extends Schema.TaggedError<TooFewBits>()("TooFewBits", {
  tensor: Schema.String,
  bits: Schema.Int,
}) {
  override get message() {
    return `${this.tensor}: a symmetric grid needs at least 2 bits, not ${this.bits}`
  }
}

/** The divisors of `length` next to `group`: up to two below it and two above. */
const divisorsNear = (length: number, group: number): ReadonlyArray<number> => {
  const divisors = Array.from({ length }, (_, i) => i + 1).filter((d) => length % d === 0)
  const above = divisors.findIndex((d) => d > group)
  const at = above === -1 ? divisors.length : above
  return divisors.slice(Math.max(0, at - 2), at + 2)
}

const greatestCommonDivisor = (lengths: ReadonlyArray<number>): number =>
  lengths.reduce((a, b) => {
    while (b > 0) [a, b] = [b, a % b]
    return a
  })

/** The same with sizes near it that divide rows of all these lengths: one that does for one tensor alone is no help. */
export const forAll = <E>(error: E, lengths: ReadonlyArray<number>): E | IndivisibleGroup =>
  error instanceof IndivisibleGroup
    ? new IndivisibleGroup({ ...error, nearest: divisorsNear(greatestCommonDivisor(lengths), error.group) })
    : error

/** Fails unless rows of `length` split into groups of `group`. */
export const checkGroup = (tensor: string, length: number, group: number): Effect.Effect<void, IndivisibleGroup> =>
  length % group === 0
    ? Effect.void
    : Effect.fail(new IndivisibleGroup({ tensor, length, group, nearest: divisorsNear(length, group) }))

interface Common<Slot, Fields extends Schema.Struct.Fields, Wanted extends Statistic> {
  readonly slot: Slot
  readonly description: string
  /** Bump when results change although neither code nor parameters show it. */
  readonly version: number
  readonly params: Fields
  /** The statistics it needs; none: it needs no calibration. */
  readonly wants: ReadonlyArray<Wanted>
  readonly label: (params: Schema.Struct<Fields>["Type"]) => string
  /** The parameters that have this label, or `undefined` for what is not a label of this method. */
  readonly parse: (label: string) => Schema.Struct<Fields>["Type"] | undefined
}

/** A tensor to be quantized, as far as it is known before anything is read. */
export interface Target extends Shape {
  readonly tensor: string
}
/** How a tensor will be stored: the name of a format in `src/formats/`, and that format's parameters. */
export interface Storage {
  readonly format: string
  readonly params: { readonly [name: string]: Schema.Json }
}

export interface Weights<Fields extends Schema.Struct.Fields, Wanted extends Statistic> extends Common<
  "weights",
  Fields,
  Wanted
> {
  /** Everything that can be wrong with these parameters for this tensor, and how it will be stored. */
  readonly plan: (
    params: Schema.Struct<Fields>["Type"],
    target: Target,
  ) => Effect.Effect<Storage, IndivisibleGroup | TooFewBits>
  /** The numerics, called in a worker for parameters that `plan` has accepted. Throws `NonFinite`. */
  readonly apply: (
    params: Schema.Struct<Fields>["Type"],
    weights: Float32Array,
    shape: Shape,
    statistics: Statistics<Wanted>,
  ) => Encoded
}

export interface Activations<Fields extends Schema.Struct.Fields, Wanted extends Statistic> extends Common<
  "activations",
  Fields,
  Wanted
> {
  /** The quantizer of one site, from what calibration has seen there. */
  readonly quantizer: (params: Schema.Struct<Fields>["Type"], statistics: Statistics<Wanted>) => ActivationQuantizer
}

export interface Kv<Fields extends Schema.Struct.Fields, Wanted extends Statistic> extends Common<
  "kv",
  Fields,
  Wanted
> {
  /** Everything that can be wrong with these parameters for heads of `headSize` channels. */
  readonly plan: (params: Schema.Struct<Fields>["Type"], headSize: number) => Effect.Effect<void, IndivisibleGroup>
  /** What the statistics are of: the keys at this point. */
  readonly point: (params: Schema.Struct<Fields>["Type"]) => typeof Point.Type
  /** The quantizer of a layer, for parameters that `plan` has accepted, from what calibration has seen of its keys. */
  readonly quantizer: (
    params: Schema.Struct<Fields>["Type"],
    headSize: number,
    statistics: Statistics<Wanted>,
  ) => KvQuantizer
}

export interface State<Fields extends Schema.Struct.Fields> extends Common<"state", Fields, never> {
  /** The quantizer of a state with `size` numbers per channel. */
  readonly quantizer: (
    params: Schema.Struct<Fields>["Type"],
    size: number,
  ) => Effect.Effect<StateQuantizer, IndivisibleGroup>
}

export const weights = <const Fields extends Schema.Struct.Fields, const Wanted extends Statistic = never>(
  method: Omit<Weights<Fields, Wanted>, "slot">,
): Weights<Fields, Wanted> => ({ slot: "weights", ...method })

export const activations = <const Fields extends Schema.Struct.Fields, const Wanted extends Statistic = never>(
  method: Omit<Activations<Fields, Wanted>, "slot">,
): Activations<Fields, Wanted> => ({ slot: "activations", ...method })

export const kv = <const Fields extends Schema.Struct.Fields, const Wanted extends Statistic = never>(
  method: Omit<Kv<Fields, Wanted>, "slot">,
): Kv<Fields, Wanted> => ({ slot: "kv", ...method })

export const state = <const Fields extends Schema.Struct.Fields>(
  method: Omit<State<Fields>, "slot">,
): State<Fields> => ({ slot: "state", ...method })

/** A method whose types have been checked and forgotten. */
export type Any = Weights<any, any> | Activations<any, any> | Kv<any, any> | State<any>

/** The only thing asked of a method's module at run time. */
export const isMethod = (u: unknown): u is Any =>
  typeof u === "object" && u !== null && "slot" in u && "wants" in u && "label" in u && "parse" in u
