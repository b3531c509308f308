/**
 * The cache folder as every Hugging Face client lays it out. Blobs are named by what the hub calls their content; a
 * snapshot is a folder of relative links to them; a ref remembers which commit a branch was at.
 *
 *     <cache>/models--owner--name/blobs/<sha256 of an LFS file, or git blob id>
 *                                /refs/<branch>                       holds a commit
 *                                /snapshots/<commit>/<path>  ->  ../../blobs/<…>
 *                                /trees/<commit>.json                 huggingface_hub's copy of a listing
 *
 * Paths come from a server and are joined to folders of ours: each is checked here first. No link is followed, or made,
 * that leaves the repository's folder; only the blobs that huggingface_hub shares among repositories, in
 * `<cache>/blobs`, may lie beside it.
 */
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import { dirname, isAbsolute, join, relative, sep } from "node:path"
import * as Json from "../data/Json.ts"
import { CacheError } from "./HubError.ts"

/** What is wrong with a path of a repository, if anything: it must stay below the folder it is joined to. */
export const unsafePath = (path: string): string | undefined => {
  if (path === "") return "is empty"
  if (path.length > 1000) return "is longer than 1000 characters"
  // Windows reads a backslash as '/', and 'C:x' as a place of its own.
  if (/[\\\p{Cc}]/u.test(path)) return "holds a backslash or a control character"
  const parts = path.split("/")
  if (parts.some((part) => /^[a-zA-Z]:/.test(part))) return "names a drive"
  return parts.some((part) => part === "" || part === "." || part === "..")
    ? "has an empty, '.' or '..' part"
    : undefined
}

export interface Folders {
  readonly cache: string
  readonly repository: string
  readonly blobs: string
  readonly refs: string
  readonly snapshots: string
  readonly trees: string
}

export const folders = (cache: string, kind: "model" | "dataset", name: string): Folders => {
  const repository = join(cache, [`${kind}s`, ...name.split("/")].join("--"))
  return {
    cache,
    repository,
    blobs: join(repository, "blobs"),
    refs: join(repository, "refs"),
    snapshots: join(repository, "snapshots"),
    trees: join(repository, "trees"),
  }
}

/** Where a file of a commit is, whether or not it is there. */
export const pointer = (folders: Folders, commit: string, path: string): string =>
  join(folders.snapshots, commit, ...path.split("/"))

export const attempt = <A>(path: string, thunk: () => A): Effect.Effect<A, CacheError> =>
  Effect.try({ try: thunk, catch: (cause) => new CacheError({ path, reason: (cause as Error).message }) })

const inside = (root: string, path: string): boolean => {
  const way = relative(root, path)
  return way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way)
}

/** The file behind a path of the cache, links followed; `undefined` where there is none. */
export const real = (folders: Folders, path: string): Effect.Effect<string | undefined, CacheError> =>
  attempt(path, () => (Fs.existsSync(path) ? Fs.realpathSync(path) : undefined)).pipe(
    Effect.flatMap((file) => {
      if (file === undefined) return Effect.succeed(undefined)
      const roots = [folders.repository, join(folders.cache, "blobs")].filter((root) => Fs.existsSync(root))
      if (!roots.some((root) => inside(Fs.realpathSync(root), file))) {
        const reason = `it leads to ${file}, out of the repository's folder; remove the link`
        return Effect.fail(new CacheError({ path, reason }))
      }
      return Fs.statSync(file).isFile()
        ? Effect.succeed(file)
        : Effect.fail(new CacheError({ path, reason: "it is no file; remove it" }))
    }),
  )

/** Makes the link of a snapshot to a blob that is there. */
export const link = (folders: Folders, commit: string, path: string, blob: string): Effect.Effect<void, CacheError> => {
  const at = pointer(folders, commit, path)
  return attempt(at, () => {
    const folder = dirname(at)
    Fs.mkdirSync(folder, { recursive: true })
    // A link among the folders would carry this one out of the snapshot.
    const snapshot = join(Fs.realpathSync(folders.snapshots), commit)
    if (!inside(snapshot, Fs.realpathSync(folder)))
      throw new Error(`${folder} leads out of ${snapshot}; remove the link`)
    const target = relative(folder, join(folders.blobs, blob))
    if (Fs.lstatSync(at, { throwIfNoEntry: false })?.isSymbolicLink() && Fs.readlinkSync(at) === target) return
    const draft = `${at}.${randomBytes(4).toString("hex")}.tmp`
    Fs.symlinkSync(target, draft)
    Fs.renameSync(draft, at)
  })
}

/** The commit that a branch or tag was at when it was last asked for. */
export const readRef = (folders: Folders, revision: string): Effect.Effect<string | undefined, CacheError> => {
  const file = join(folders.refs, ...revision.split("/"))
  return attempt(file, () => {
    if (!Fs.existsSync(file)) return undefined
    const commit = Fs.readFileSync(file, "utf8").trim()
    if (!/^[0-9a-f]{40}$/.test(commit)) throw new Error("it does not hold a commit; remove it")
    return commit
  })
}

/** Only where it says something else: a cache that is complete may be read-only. */
export const writeRef = (folders: Folders, revision: string, commit: string): Effect.Effect<void, CacheError> => {
  const file = join(folders.refs, ...revision.split("/"))
  return attempt(file, () => {
    if (Fs.existsSync(file) && Fs.readFileSync(file, "utf8") === commit) return
    Fs.mkdirSync(dirname(file), { recursive: true })
    const draft = `${file}.${randomBytes(4).toString("hex")}.tmp`
    Fs.writeFileSync(draft, commit)
    Fs.renameSync(draft, file)
  })
}

/** Listings of tens of thousands of files are a few megabytes. */
const MAX_TREE = 256 << 20

/**
 * All files of a commit in the form of the hub's own listing, as huggingface_hub noted them; `undefined` where it did not,
 * or in a form that is not known here.
 */
export const readTree = (
  folders: Folders,
  commit: string,
): Effect.Effect<ReadonlyArray<unknown> | undefined, CacheError> =>
  Effect.flatMap(real(folders, join(folders.trees, `${commit}.json`)), (file) =>
    file === undefined
      ? Effect.succeed(undefined)
      : attempt(file, () => {
          if (Fs.statSync(file).size > MAX_TREE) return undefined
          const parsed = Json.parse(Fs.readFileSync(file, "utf8"))
          const tree = "value" in parsed && Json.isRecord(parsed.value) ? parsed.value : {}
          const files = tree["format_version"] === 1 ? tree["files"] : undefined
          if (!Json.isRecord(files)) return undefined
          return Object.entries(files).map(([path, file]) => {
            const { size, blob_id: oid, lfs_sha256: sha256, lfs_size: bytes } = Json.isRecord(file) ? file : {}
            return sha256 == null ? { path, size, oid } : { path, lfs: { oid: sha256, size: bytes } }
          })
        }),
  )
