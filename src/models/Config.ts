/**
 * What the configs of most families have in common: keys with the value they have where config.json leaves them out, the
 * heads in Llama's spelling, and what these sizes have to agree on.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Heads } from "../onnx/Block.ts"

/** A size that config.json has to say. */
export const Positive = Schema.Int.check(Schema.isGreaterThan(0))

/** A key that may be absent. A null is not absent: it is what it means in the schema, if anything. */
export const withDefault = <S extends Schema.Constraint>(schema: S, otherwise: S["Encoded"]) =>
  Schema.withDecodingDefaultKey<S>(Effect.succeed(otherwise))(schema)

export const size = (otherwise: number) => withDefault(Positive, otherwise)
export const number = (otherwise: number) => withDefault(Schema.Finite, otherwise)
export const flag = (otherwise: boolean) => withDefault(Schema.Boolean, otherwise)

/** One of these values: the first, where the key is absent. */
export const oneOf = <const L extends readonly [string | boolean, ...ReadonlyArray<string | boolean>]>(...values: L) =>
  withDefault(Schema.Literals(values), values[0])

/** Each of these sizes goes by two names, of which a config may give either. */
export const sameUnderBoth = <Name extends string>(spellings: ReadonlyArray<readonly [Name, Name]>) =>
  Schema.makeFilter((c: { readonly [name in Name]?: number }) => {
    const unequal = spellings.find(([one, other]) => (c[one] ?? c[other]) !== (c[other] ?? c[one]))
    if (unequal === undefined) return undefined
    const [one, other] = unequal
    return `${one} ${c[one]} and ${other} ${c[other]} are the same size under two names; give one`
  })

/** What heads are told by. Without the optional keys each has its own keys and values, and all share the hidden size. */
export interface HeadKeys {
  readonly hidden_size: number
  readonly num_attention_heads: number
  readonly num_key_value_heads?: number | null
  readonly head_dim?: number | null
}

export const heads = (c: HeadKeys): Heads => ({
  query: c.num_attention_heads,
  keyValue: c.num_key_value_heads ?? c.num_attention_heads,
  dim: c.head_dim ?? c.hidden_size / c.num_attention_heads,
})

/** Every head of keys and values serves as many of queries. */
export const evenGroups = Schema.makeFilter((c: HeadKeys) =>
  c.num_attention_heads % heads(c).keyValue === 0
    ? undefined
    : `num_attention_heads ${c.num_attention_heads} is not a multiple of num_key_value_heads ${c.num_key_value_heads}`,
)

const uneven = (c: HeadKeys) =>
  c.hidden_size % c.num_attention_heads === 0
    ? undefined
    : `hidden_size ${c.hidden_size} is not a multiple of num_attention_heads ${c.num_attention_heads}`

/** All heads have as many channels, where nothing but the hidden size tells how many. */
export const evenHeads = Schema.makeFilter(uneven)

/** The same, where `head_dim` may tell. */
export const evenHeadsOrDim = Schema.makeFilter((c: HeadKeys) => {
  const problem = c.head_dim == null ? uneven(c) : undefined
  return problem && `${problem}; give head_dim`
})
