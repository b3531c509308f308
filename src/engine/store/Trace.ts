/**
 * A trace says: under this key, that output. It is written after everything it names, and outlives it: a trace whose
 * bytes were evicted still tells what they were.
 */
import type { Coordinates } from "../Stage.ts"

/** How a result came to be. Recorded, never part of a key. */
export interface Provenance {
  /** Digest of the code that computed it. */
  readonly code: string
  /** Name and version of what it computed with: `{ node: "24.21.0", onnxruntime: "1.30.0" }`. */
  readonly runtime: { readonly [name: string]: string }
  /** `linux-x64` */
  readonly platform: string
  readonly cpu: string
  /** Milliseconds since 1970. */
  readonly started: number
  /** Wall time of the computation. */
  readonly seconds: number
  /** Bytes; 0 where it was not measured. */
  readonly peakMemory: number
  /** Name of the study that computed it first. */
  readonly study: string
  /** Digest of the log's document. */
  readonly log?: string
}

export interface Trace {
  /** Content key: digest of everything the output depends on. */
  readonly key: string
  /** A cell of a study, or a work unit inside one. */
  readonly kind: "stage" | "unit"
  /** Stage kind (`quantize`), or the unit's name. */
  readonly stage: string
  /** Where it was first computed. For display and for `nearest` only. */
  readonly cell: string
  readonly coordinates: Coordinates
  /** Digest of the output's document. */
  readonly output: string
  /** Digests of the stored blobs the output refers to; slices of source files are not among them. */
  readonly blobs: ReadonlyArray<string>
  /** Output digests of the inputs, by slot. */
  readonly inputs: { readonly [slot: string]: ReadonlyArray<string> }
  /** Name under which the key's pre-image is kept. */
  readonly preimage: string
  readonly provenance: Provenance
}

/**
 * What became of a published trace; `trace` is the one that now stands under the key.
 * - `stored`: the first under its key.
 * - `same`: the output was there already.
 * - `different`: another output stands under this key and keeps it; the stage is not deterministic.
 * - `replaced`: as `different`, but the older output's bytes are gone, so the newer stands.
 * - `fenced`: the lease had passed to another owner, so nothing was written; look the trace up or compute again.
 */
export interface Published {
  readonly outcome: "stored" | "same" | "different" | "replaced" | "fenced"
  readonly trace: Trace
}
