/**
 * What flows along the edges of a study: a named kind, the schema that stores it, and (as a type only) the outline,
 * which is what is known of it before it is computed.
 *
 * An artifact is a JSON document. Bulk bytes (tensors, records) are not in it: the document holds `Blob` references,
 * and the store keeps the bytes once under their digest, whoever refers to them.
 */
import * as Schema from "effect/Schema"

/** Lower-case hexadecimal SHA-256, never truncated. */
export const Digest = Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/))

/**
 * A reference to bytes by content. With `within`, the bytes are a slice of a source file (named by the file's own
 * digest, never by its path), so a checkpoint on disk is not copied into the cache.
 */
export const Blob = Schema.Struct({
  blob: Digest,
  bytes: Schema.Int,
  within: Schema.optionalKey(Schema.Struct({ file: Digest, offset: Schema.Int })),
})
export type Blob = typeof Blob.Type

export interface Artifact<Kind extends string, A, Outline> {
  readonly kind: Kind
  readonly schema: Schema.Codec<A, Schema.Json>
  /** Phantom: never set. Carries the outline's type from a stage to the stages that need this kind. */
  readonly outline?: Outline
}
export type Any = Artifact<string, any, any>
export type Value<T> = T extends Artifact<string, infer A, any> ? A : never
export type Outline<T> = T extends Artifact<string, any, infer O> ? O : never

export const make = <const Kind extends string, A, Outline>(
  kind: Kind,
  schema: Schema.Codec<A, Schema.Json>,
): Artifact<Kind, A, Outline> => ({ kind, schema })
