/**
 * From a reference in a study to files on this machine: the lock, the hub and the choice of files together.
 *
 * Pinned: the commit and files of the lock, and no question to the hub but for bytes that are missing. Not pinned: what
 * the hub says now, which is pinned before the download begins, so that one that breaks off goes on with the same
 * commit. Frozen: what is not pinned is refused.
 */
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as DataFiles from "./DataFiles.ts"
import type { RepoFile } from "./Digest.ts"
import * as Files from "./Files.ts"
import { Hub, type OnProgress, type Resolved } from "./Hub.ts"
import { CacheError, type HubError } from "./HubError.ts"
import * as Lock from "./Lock.ts"
import * as Reference from "./Reference.ts"

export interface Options {
  /** The lock's path; see `Lock.fileOf`. */
  readonly lock: string
  readonly frozen: boolean
  readonly onProgress: OnProgress
}

/** Files that are there and whole. */
export interface Source {
  readonly commit: string
  /** The snapshot's folder. It may hold more than was asked for, from other programs: read what `files` names. */
  readonly folder: string
  /** Absolute paths by their path in the repository, in the order of these. */
  readonly files: ReadonlyMap<string, string>
}

export type SourceError =
  | Reference.BadReference
  | HubError
  | Lock.BadLock
  | Lock.LockUnwritable
  | Lock.NotPinned
  | Files.NoModel
  | DataFiles.NoSplit

/** The files of a model: `hub:owner/name@revision`, or one `hub:owner/name@revision#file.gguf`. */
export const model = Effect.fn("Source.model")(function* (
  text: string,
  options: Options,
): Effect.fn.Return<Source, SourceError, Hub> {
  const hub = yield* Hub
  const reference = yield* Reference.parse(text)
  if (reference.kind !== "model") {
    return yield* new Reference.BadReference({ text, reason: "is a data set where a model is needed" })
  }
  const { file } = reference
  return yield* open(
    reference,
    file ?? "model",
    options,
    Effect.fnUntraced(function* ({ commit, files }) {
      const about = { source: Reference.show(reference), commit }
      if (file !== undefined) return yield* Files.gguf(about, files, file)
      const chosen = yield* Files.model(about, files)
      const { index } = chosen
      if (index === undefined) return chosen.files
      const folder = yield* hub.fetch(reference, commit, [index], () => Effect.void)
      const named = yield* Files.shards(about, files, index.path, yield* textOf(join(folder, index.path)))
      return [...chosen.files, ...named]
    }),
  )
})

/** The files of a split: `hub-data:owner/name@revision`. */
export const data = Effect.fn("Source.data")(function* (
  text: string,
  wanted: DataFiles.Split,
  options: Options,
): Effect.fn.Return<Source, SourceError, Hub> {
  const hub = yield* Hub
  const reference = yield* Reference.parse(text)
  if (reference.kind !== "dataset") {
    return yield* new Reference.BadReference({ text, reason: "is a model where a data set is needed" })
  }
  const use = `${wanted.config ?? "(default)"}, ${wanted.split}`
  return yield* open(
    reference,
    use,
    options,
    Effect.fnUntraced(function* ({ commit, files }) {
      const card = files.find(({ path }) => path === "README.md")
      const folder = card && (yield* hub.fetch(reference, commit, [card], () => Effect.void))
      const readme = folder === undefined ? undefined : yield* textOf(join(folder, "README.md"))
      return yield* DataFiles.choose(Reference.show(reference), files, readme, wanted)
    }),
  )
})

const textOf = (path: string) =>
  Effect.try({
    try: () => readFileSync(path, "utf8"),
    catch: (cause) => new CacheError({ path, reason: (cause as Error).message }),
  })

const open = Effect.fnUntraced(function* <E extends SourceError>(
  reference: Reference.Reference,
  use: string,
  { lock: file, frozen, onProgress }: Options,
  choose: (resolved: Resolved) => Effect.Effect<ReadonlyArray<RepoFile>, E, never>,
): Effect.fn.Return<Source, SourceError, Hub> {
  const hub = yield* Hub
  const locked = Lock.check(yield* Lock.read(file), reference, use)
  const fetch = Effect.fnUntraced(function* (commit: string, files: ReadonlyArray<RepoFile>) {
    const sorted = files.toSorted((a, b) => (a.path < b.path ? -1 : 1))
    const folder = yield* hub.fetch(reference, commit, sorted, onProgress)
    const paths = new Map(sorted.map(({ path }) => [path, join(folder, ...path.split("/"))]))
    return { commit, folder, files: paths }
  })
  if (locked?.files !== undefined) return yield* fetch(locked.commit, locked.files)
  if (frozen) return yield* new Lock.NotPinned({ file, source: Reference.show(reference), use })

  const resolved = yield* hub.resolve(locked === undefined ? reference : { ...reference, revision: locked.commit })
  const chosen = { commit: resolved.commit, files: yield* choose(resolved) }
  const after = yield* Lock.update(file, (lock) => Lock.pin(lock, reference, use, chosen))
  const pinned = Lock.check(after, reference, use)
  if (pinned?.files !== undefined) return yield* fetch(pinned.commit, pinned.files)
  // Someone pinned another commit meanwhile: the same again, of theirs.
  return yield* open(reference, use, { lock: file, frozen, onProgress }, choose)
})
