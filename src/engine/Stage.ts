/**
 * A stage is a value: what it needs, what it takes, what it gives, and how. The engine knows nothing else of it.
 *
 * Only `params` (after decoding), the content of `sources` and of the inputs, and the code behind `run` and `plugins`
 * enter a result's key. `hints` (batch size, memory budget) never do: they must not change a number.
 */
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { Any as AnyArtifact, Artifact, Blob, Outline, Value } from "./Artifact.ts"
import type { BlobLost, Problem, StageFailure } from "./Problem.ts"

/** `one`: exactly one reference. `optional`: may be left out. `many`: gathers every cell of the referenced stages. */
export type Arity = "one" | "optional" | "many"
export interface Need<A extends AnyArtifact, M extends Arity> {
  readonly artifact: A
  readonly arity: M
}
export const one = <A extends AnyArtifact>(artifact: A): Need<A, "one"> => ({ artifact, arity: "one" })
export const optional = <A extends AnyArtifact>(artifact: A): Need<A, "optional"> => ({ artifact, arity: "optional" })
export const many = <A extends AnyArtifact>(artifact: A): Need<A, "many"> => ({ artifact, arity: "many" })

/** Where a cell sits in the sweep: axis name to label, in axis order. */
export type Coordinates = { readonly [axis: string]: string }
/** One gathered cell, for needs of arity `many`. */
export interface Gathered<A> {
  readonly cell: string
  readonly coordinates: Coordinates
  readonly value: A
}

export type Needs = { readonly [name: string]: Need<AnyArtifact, Arity> }
type Input<T> =
  T extends Need<infer A, infer M>
    ? M extends "many"
      ? ReadonlyArray<Gathered<Value<A>>>
      : M extends "optional"
        ? Value<A> | undefined
        : Value<A>
    : never
type InputOutline<T> =
  T extends Need<infer A, infer M>
    ? M extends "many"
      ? ReadonlyArray<{ readonly cell: string; readonly coordinates: Coordinates; readonly value: Outline<A> }>
      : M extends "optional"
        ? Outline<A> | undefined
        : Outline<A>
    : never
export type Inputs<N> = { readonly [K in keyof N]: Input<N[K]> }
export type Outlines<N> = { readonly [K in keyof N]: InputOutline<N[K]> }

/** A source file of a stage: its absolute path and the SHA-256 of its content at plan time. */
export interface Source {
  readonly path: string
  readonly digest: string
}
export type Sources = { readonly [slot: string]: Source }

/** How a stage finds files: paths in YAML are relative to the study's folder and must not leave the allowed roots. */
export interface Locate {
  /**
   * `bundled:x` (inside the product's `pipelines/`), `file:x` / `dir:x` / plain `x` (relative to the study's folder,
   * absolute allowed); fails for a missing file or a path that escapes through `..` or a symbolic link.
   */
  readonly resolve: (source: string) => Effect.Effect<string, Problem>
  /**
   * The files of a source elsewhere (`hub:owner/name@revision`), fetched where they are not here yet: absolute paths by
   * their names there. `part` says which of them, where there is a choice.
   */
  readonly remote: (
    source: string,
    part: { readonly [name: string]: string },
  ) => Effect.Effect<ReadonlyMap<string, string>, Problem>
}

/** What a running stage may ask of the engine. */
export interface Context {
  /** Keep bytes; the reference goes into the artifact's document. Chunked, deduplicated, durable on return. */
  readonly put: (bytes: Uint8Array) => Effect.Effect<Blob, StageFailure>
  /** The bytes of a reference in a fresh SharedArrayBuffer, checked against their digest. */
  readonly read: (blob: Blob) => Effect.Effect<Uint8Array<SharedArrayBuffer>, BlobLost | StageFailure>
  /** For references within a source file: where the bytes are, so that workers can read slices themselves. */
  readonly locate: (blob: Blob) => { readonly path: string; readonly offset: number } | undefined
  /**
   * A work unit inside the stage, cached on its own under the stage's code, `name` and `preimage` (JSON: everything the
   * unit's result depends on, blobs by digest). Single-flight across cells and processes.
   */
  readonly memo: <A, E, R>(
    name: string,
    preimage: Schema.Json,
    schema: Schema.Codec<A, Schema.Json>,
    compute: Effect.Effect<A, E, R>,
  ) => Effect.Effect<A, E | BlobLost | StageFailure, R>
  /** Content digests of the files named by `sources`, as they were planned. */
  readonly sources: Sources
  /** Digest of a plug-in's code: its own module closure and package versions. `module` is an absolute path. */
  readonly fingerprint: (module: string) => Effect.Effect<string, StageFailure>
  /** 64-bit seed from the study's seed, this cell's parameters and inputs, never from its position; 0 unless `seeded`. */
  readonly seed: bigint
  /** Live progress: `done` of `total` in `unit` ("tokens", "tensors"); the engine derives rate and ETA. */
  readonly progress: (done: number, total: number, unit: string) => Effect.Effect<void>
  /** Kept with the result and shown by `results --log`. */
  readonly log: (message: string) => Effect.Effect<void>
}

export interface Stage<
  N extends Needs,
  P extends Schema.Struct.Fields,
  H extends Schema.Struct.Fields,
  G extends AnyArtifact,
  R,
> {
  /** One line for `list stages`. */
  readonly description: string
  /** Bump when the meaning of the output changes although neither code nor parameters show it. */
  readonly version: number
  /** Asks for `context.seed`: the study's seed is then part of the key. Without it the seed is 0. */
  readonly seeded?: boolean
  readonly needs: N
  readonly params: P
  readonly hints: H
  readonly gives: G
  /** Short names of parameter values in cell coordinates: `weights: (v) => "w4-g64"`. Others are shown as written. */
  readonly labels?: { readonly [param: string]: (value: any) => string }
  /** The files it reads, by slot. Their content enters the key. */
  readonly sources?: (
    params: Schema.Struct<P>["Type"],
    locate: Locate,
  ) => Effect.Effect<{ readonly [slot: string]: string }, Problem>
  /** Absolute paths of plug-in modules whose code computes the result (a method, a family). Enters the key. */
  readonly plugins?: (
    params: Schema.Struct<P>["Type"],
    sources: { readonly [slot: string]: string },
  ) => Effect.Effect<ReadonlyArray<string>, Problem>
  /**
   * Everything that can be wrong, found before anything runs, and what the output will look like. Called only for cells
   * that are not cached (and for what they need).
   */
  readonly outline: (
    params: Schema.Struct<P>["Type"],
    inputs: Outlines<N>,
    sources: { readonly [slot: string]: string },
  ) => Effect.Effect<Outline<G>, Problem>
  /** Heavy modules are imported inside, so that planning loads none of them. */
  readonly run: (
    params: Schema.Struct<P>["Type"] & Schema.Struct<H>["Type"],
    inputs: Inputs<N>,
    context: Context,
  ) => Effect.Effect<Value<G>, BlobLost | StageFailure, R>
}

/** A stage whose types have been checked and forgotten; the engine decodes params and inputs by the schemas it holds. */
export interface Any<R> {
  readonly description: string
  readonly version: number
  readonly seeded?: boolean
  readonly needs: Needs
  readonly params: Schema.Struct.Fields
  readonly hints: Schema.Struct.Fields
  readonly gives: Artifact<string, any, any>
  readonly labels?: { readonly [param: string]: (value: any) => string }
  readonly sources?: (params: any, locate: Locate) => Effect.Effect<{ readonly [slot: string]: string }, Problem>
  readonly plugins?: (
    params: any,
    sources: { readonly [slot: string]: string },
  ) => Effect.Effect<ReadonlyArray<string>, Problem>
  readonly outline: (
    params: any,
    inputs: any,
    sources: { readonly [slot: string]: string },
  ) => Effect.Effect<any, Problem>
  readonly run: (params: any, inputs: any, context: Context) => Effect.Effect<any, BlobLost | StageFailure, R>
}

export const make = <
  const N extends Needs,
  const P extends Schema.Struct.Fields,
  const H extends Schema.Struct.Fields,
  G extends AnyArtifact,
  R = never,
>(
  stage: Stage<N, P, H, G, R>,
): Stage<N, P, H, G, R> => stage

/** The only thing asked of a stage's module at run time. */
export const isStage = (u: unknown): u is Any<never> =>
  typeof u === "object" && u !== null && "run" in u && "gives" in u && "params" in u && "needs" in u && "version" in u
