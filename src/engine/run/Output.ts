/** An artifact as the store keeps it: one canonical JSON document, and the references to bytes that stand in it. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Blob } from "../Artifact.ts"
import * as Key from "../plan/Key.ts"
import { BlobLost, StageFailure } from "../Problem.ts"

export interface Output {
  /** The document. Canonical, so that equal values are equal bytes and what follows need not run again. */
  readonly text: string
  readonly digest: string
  readonly references: References
}

export interface References {
  /** Digests of what the store keeps. */
  readonly blobs: ReadonlyArray<string>
  /** Digests of the source files that slices are taken from. */
  readonly files: ReadonlyArray<string>
}

const isBlob = (value: object): value is Blob =>
  "blob" in value && typeof value.blob === "string" && "bytes" in value && typeof value.bytes === "number"

/** Every `Blob` anywhere in a document. */
export const references = (document: unknown): References => {
  const blobs = new Set<string>()
  const files = new Set<string>()
  const pending = [document]
  while (pending.length > 0) {
    const value = pending.pop()
    if (typeof value !== "object" || value === null) continue
    // One by one: as arguments of one call, a long list would overflow the stack.
    if (!isBlob(value)) for (const inner of Object.values(value)) pending.push(inner)
    else if (value.within === undefined) blobs.add(value.blob)
    else files.add(value.within.file)
  }
  return { blobs: [...blobs].toSorted(), files: [...files].toSorted() }
}

/** Fails when the value is not what its kind promises: nothing of that sort is ever stored. */
export const encode = <A>(what: string, schema: Schema.Codec<A, Schema.Json>, value: A) =>
  Schema.encodeEffect(schema)(value).pipe(
    Effect.mapError(
      (error) => new StageFailure({ reason: `${what} gave something that is not what it promises: ${error.message}` }),
    ),
    Effect.map((json): Output => {
      const text = Key.canonical(json)
      return { text, digest: Key.sha256(text), references: references(json) }
    }),
  )

/** A document that cannot be read back is as good as lost. */
export const decode = <A>(
  digest: string,
  schema: Schema.Codec<A, Schema.Json>,
  bytes: Uint8Array | undefined,
): Effect.Effect<A, BlobLost> =>
  bytes === undefined
    ? Effect.fail(new BlobLost({ digest, reason: "is missing or damaged" }))
    : Effect.suspend(() => Schema.decodeEffect(schema)(JSON.parse(Buffer.from(bytes).toString()))).pipe(
        Effect.mapError((error) => new BlobLost({ digest, reason: `is not what it should be: ${error.message}` })),
      )
