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
  /** Told what the user should know of what was done. */
  readonly onNote?: (text: string) => Effect.Effect<void>
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
  const sorted = (files: ReadonlyArray<RepoFile>) => files.toSorted((a, b) => (a.path < b.path ? -1 : 1))
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
      if (index === undefined) return sorted(chosen.files)
      const folder = yield* hub.fetch(reference, commit, [index], () => Effect.void)
      const named = yield* Files.shards(about, files, index.path, yield* textOf(join(folder, index.path)))
      return sorted([...chosen.files, ...named])
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
  options: Options,
  choose: (resolved: Resolved) => Effect.Effect<ReadonlyArray<RepoFile>, E, never>,
): Effect.fn.Return<Source, SourceError, Hub> {
  const { lock: file, frozen, onProgress } = options
  const hub = yield* Hub
  const locked = Lock.check(yield* Lock.read(file), reference, use)
  const fetch = Effect.fnUntraced(function* (commit: string, files: ReadonlyArray<RepoFile>) {
    const folder = yield* hub.fetch(reference, commit, files, onProgress)
    const paths = new Map(files.map(({ path }) => [path, join(folder, ...path.split("/"))]))
    return { commit, folder, files: paths }
  })
  if (locked?.files !== undefined) return yield* fetch(locked.commit, locked.files)
  if (frozen) return yield* new Lock.NotPinned({ file, source: Reference.show(reference), use })

  const resolved = yield* hub.resolve(locked === undefined ? reference : { ...reference, revision: locked.commit })
  const chosen = { commit: resolved.commit, files: yield* choose(resolved) }
  if (!resolved.complete) {
    // What is missing may be what a run with the hub would choose: a pin would keep this choice for good.
    const source = Reference.show(reference)
    const note = `${source} (${use}) is made of the files that happen to be in the cache, and not pinned in ${file}; run once without HF_HUB_OFFLINE to pin it`
    if (options.onNote !== undefined) yield* options.onNote(note)
    return yield* fetch(chosen.commit, chosen.files)
  }
  const after = yield* Lock.update(file, (lock) => Lock.pin(lock, reference, use, chosen))
  const pinned = Lock.check(after, reference, use)
  if (pinned?.files !== undefined) return yield* fetch(pinned.commit, pinned.files)
  // Someone pinned another commit meanwhile: the same again, of theirs.
  return yield* open(reference, use, options, choose)
})
