/**
 * A Hugging Face hub and its cache on this machine.
 *
 * Commits and listings come through `@huggingface/hub` (`modelInfo`, `datasetInfo`, `listFiles`). Its downloads are not
 * used: see `Download.ts`. The cache is the one that every Hugging Face client shares, so what is there already is
 * found; nothing is remembered anywhere else. Of every file that is handed out, the size and the digest have been
 * checked in this process, wherever it came from.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import { basename, join, relative, sep } from "node:path"
import * as Digest from "./Digest.ts"
import { download } from "./Download.ts"
import * as Http from "./Http.ts"
import { BadAnswer, CacheError, type HubError, NotCached, Tampered } from "./HubError.ts"
import * as Layout from "./Layout.ts"
import { isCommit, show, type Reference } from "./Reference.ts"
import * as Settings from "./Settings.ts"

export interface Resolved {
  readonly commit: string
  readonly files: ReadonlyArray<Digest.RepoFile>
  /** Whether these are all files of the commit. Offline they may be those alone that someone happened to fetch. */
  readonly complete: boolean
}

/** Bytes of all files asked for: present and checked, and in total. */
export type OnProgress = (done: number, total: number) => Effect.Effect<void>

export interface Service {
  /** What a branch, tag or commit is now, and all its files. Offline, what it was when it was last fetched. */
  readonly resolve: (reference: Reference) => Effect.Effect<Resolved, HubError>
  /**
   * The folder of the commit in the cache, with `files` in it, whole. What is there is checked and not fetched again; a
   * download that broke off goes on where it was.
   */
  readonly fetch: (
    reference: Reference,
    commit: string,
    files: ReadonlyArray<Digest.RepoFile>,
    onProgress: OnProgress,
  ) => Effect.Effect<string, HubError>
}

/** SHA-256 of a file in hexadecimal, for those who remember digests of files that have not changed. */
export type Sha256 = (file: string) => Effect.Effect<string, { readonly message: string }>

const sha256: Sha256 = (file) =>
  Effect.flatMap(
    Layout.attempt(file, () => Fs.statSync(file).size),
    (size) => Effect.map(Digest.ofFile(file, "sha256", size), ({ hex }) => hex),
  )

export class Hub extends Context.Service<Hub, Service>()("assay/hub/Hub") {
  /** By the environment's variables. */
  static readonly layer = (options: { readonly sha256?: Sha256 } = {}) =>
    Layer.effect(
      Hub,
      Effect.map(Settings.fromEnvironment, (settings) => make(settings, options.sha256 ?? sha256)),
    )
  static readonly layerOf = (settings: Settings.Settings, options: { readonly sha256?: Sha256 } = {}) =>
    Layer.sync(Hub, () => make(settings, options.sha256 ?? sha256))
}

const make = (settings: Settings.Settings, sha256: Sha256): Service => {
  /** References that this process has seen at a commit: what the cache's refs may say. */
  const seen = new Map<string, string>()
  /** States of files whose digest this process has checked. */
  const checked = new Set<string>()

  const resolve = Effect.fn("Hub.resolve")(function* (reference: Reference) {
    const resolved = yield* settings.offline ? resolveOffline(settings, reference) : resolveOnline(settings, reference)
    if (!settings.offline) seen.set(show(reference), resolved.commit)
    return resolved
  })

  const verify = Effect.fnUntraced(function* (reference: Reference, file: Digest.RepoFile, at: string) {
    const { size, kind, state } = yield* Layout.attempt(at, () => {
      const stat = Fs.statSync(at, { bigint: true })
      const state = `${stat.dev} ${stat.ino} ${stat.size} ${stat.mtimeNs} ${stat.ctimeNs} ${file.digest.hex}`
      return { size: Number(stat.size), kind: file.digest.kind, state }
    })
    const differs = (expected: string, found: string) =>
      new Tampered({
        ...Http.where(settings, reference),
        file: file.path,
        at,
        expected,
        found,
        advice: "delete that file and run again to fetch it anew",
      })
    if (size !== file.size) return yield* differs(`${file.size} bytes`, `${size} bytes`)
    if (checked.has(state)) return
    const found: Digest.Digest =
      kind === "blob"
        ? yield* Digest.ofFile(at, kind, size)
        : {
            kind,
            hex: yield* Effect.mapError(sha256(at), ({ message }) => new CacheError({ path: at, reason: message })),
          }
    if (found.hex !== file.digest.hex) return yield* differs(Digest.show(file.digest), Digest.show(found))
    checked.add(state)
  })

  const fetch = Effect.fn("Hub.fetch")(function* (
    reference: Reference,
    commit: string,
    files: ReadonlyArray<Digest.RepoFile>,
    onProgress: OnProgress,
  ) {
    const folders = Layout.folders(settings.cache, reference.kind, reference.name)
    yield* checkNames(settings, reference, commit, files)
    const total = files.reduce((sum, { size }) => sum + size, 0)
    const done = new Map(files.map(({ path }) => [path, 0]))
    const report = (path: string) => (bytes: number) =>
      Effect.suspend(() => {
        done.set(path, bytes)
        return onProgress(
          [...done.values()].reduce((sum, n) => sum + n, 0),
          total,
        )
      })

    /** The file as a blob of the cache, linked into the snapshot; `false` where there is none. */
    const find = Effect.fnUntraced(function* (file: Digest.RepoFile) {
      const linked = yield* Layout.real(folders, Layout.pointer(folders, commit, file.path))
      const found = linked ?? (yield* Layout.real(folders, join(folders.blobs, file.digest.hex)))
      if (found === undefined) return false
      yield* verify(reference, file, found)
      if (linked === undefined) yield* Layout.link(folders, commit, file.path, file.digest.hex)
      yield* report(file.path)(file.size)
      return true
    })

    const missing: Array<Digest.RepoFile> = []
    for (const file of files) if (!(yield* find(file))) missing.push(file)
    if (missing.length > 0 && settings.offline) {
      return yield* new NotCached({
        ...Http.where(settings, reference),
        what: missing.map(({ path }) => path).join(", "),
        cache: settings.cache,
      })
    }
    yield* checkRoom(folders, missing)
    yield* Effect.forEach(
      missing,
      Effect.fnUntraced(function* (file) {
        const onBytes = report(file.path)
        const outcome = yield* download(settings, { reference, commit, file, blobs: folders.blobs, onBytes })
        if (outcome === "found") yield* verify(reference, file, join(folders.blobs, file.digest.hex))
        yield* Layout.link(folders, commit, file.path, file.digest.hex)
        yield* onBytes(file.size)
      }),
      { concurrency: settings.downloads, discard: true },
    )
    // As huggingface_hub does: the branch is remembered for those who are offline, as well as that can be done.
    if (seen.get(show(reference)) === commit && !isCommit(reference.revision)) {
      yield* Effect.ignore(Layout.writeRef(folders, reference.revision, commit))
    }
    return join(folders.snapshots, commit)
  })

  return { resolve, fetch }
}

const resolveOnline = Effect.fnUntraced(function* (settings: Settings.Settings, reference: Reference) {
  const { modelInfo, datasetInfo, listFiles } = yield* Effect.promise(() => import("@huggingface/hub"))
  const { kind, name, revision } = reference
  const hub = { hubUrl: settings.endpoint }
  const bad = (reason: string) => new BadAnswer({ ...Http.where(settings, reference), reason })
  const { sha: commit } = yield* Http.viaLibrary(settings, { reference }, (fetch) => {
    const options = { ...hub, name, revision, fetch }
    return kind === "model"
      ? modelInfo({ ...options, additionalFields: ["sha"] })
      : datasetInfo({ ...options, additionalFields: ["sha"] })
  })
  if (!isCommit(commit)) return yield* bad(`the hub calls the commit of '${revision}' ${JSON.stringify(commit)}`)
  if (isCommit(revision) && commit !== revision)
    return yield* bad(`asked for ${revision}, the hub answers with ${commit}`)
  const entries = yield* Http.viaLibrary(settings, { reference, commit }, async (fetch) => {
    const entries: Array<unknown> = []
    const listing = listFiles({ ...hub, repo: { type: kind, name }, recursive: true, revision: commit, fetch })
    for await (const entry of listing) if (entry.type === "file") entries.push(entry)
    return entries
  })
  const files: Array<Digest.RepoFile> = []
  for (const entry of entries) {
    if (isOdd(entry)) continue
    const file = repoFile(entry)
    if (typeof file === "string") return yield* bad(`the hub lists a file ${file}`)
    files.push(file)
  }
  yield* checkNames(settings, reference, commit, files)
  return { commit, files, complete: true }
})

/** A name that we make no path of. Git allows such names; a file of that kind is left out and does no harm to the others. */
const isOdd = (entry: unknown): boolean => {
  const { path } = entry as { readonly path?: unknown }
  return typeof path === "string" && Layout.unsafePath(path) !== undefined
}

/** A file of a listing, or what is wrong with it. */
const repoFile = (entry: unknown): Digest.RepoFile | string => {
  const { path, size, oid, lfs } = entry as { readonly [key: string]: unknown }
  if (typeof path !== "string") return `named ${JSON.stringify(path)}`
  const large = lfs as { readonly oid?: unknown; readonly size?: unknown } | undefined
  const digest = large == null ? { kind: "blob", hex: oid } : { kind: "sha256", hex: large.oid }
  const bytes = large == null ? size : large.size
  if (!Number.isSafeInteger(bytes) || (bytes as number) < 0) {
    return `${JSON.stringify(path)} of ${JSON.stringify(bytes)} bytes`
  }
  return Digest.isHex(digest.kind as Digest.Digest["kind"], digest.hex)
    ? { path, size: bytes as number, digest: digest as Digest.Digest }
    : `${JSON.stringify(path)} with the digest ${JSON.stringify(digest.hex)}`
}

/** Names become paths of ours; two of them must not meet. */
const checkNames = (
  settings: Settings.Settings,
  reference: Reference,
  commit: string,
  files: ReadonlyArray<Digest.RepoFile>,
): Effect.Effect<void, BadAnswer> => {
  const bad = (reason: string) => Effect.fail(new BadAnswer({ ...Http.where(settings, reference), reason }))
  if (!isCommit(commit)) return bad(`${JSON.stringify(commit)} is no commit`)
  const names = new Set<string>()
  for (const { path } of files) {
    const problem = names.has(path) ? "is listed twice" : Layout.unsafePath(path)
    if (problem !== undefined) return bad(`the file name ${JSON.stringify(path)} ${problem}`)
    names.add(path)
  }
  return Effect.void
}

/** Before a download that cannot end well. */
const checkRoom = (folders: Layout.Folders, missing: ReadonlyArray<Digest.RepoFile>): Effect.Effect<void, CacheError> =>
  missing.length === 0
    ? Effect.void
    : Layout.attempt(folders.cache, () => {
        Fs.mkdirSync(folders.blobs, { recursive: true })
        const kept = Fs.readdirSync(folders.blobs).filter((name) => name.endsWith(".incomplete"))
        const size = (name: string) => Fs.statSync(join(folders.blobs, name), { throwIfNoEntry: false })?.size ?? 0
        const needed = missing.reduce((sum, { size }) => sum + size, 0)
        const there = kept
          .filter((name) => missing.some(({ digest }) => name.startsWith(digest.hex)))
          .reduce((sum, name) => sum + size(name), 0)
        const { bavail, bsize } = Fs.statfsSync(folders.blobs)
        if (needed - there > bavail * bsize) {
          throw new Error(
            `${needed - there} bytes are to be fetched and ${bavail * bsize} are free; make room, or set HF_HUB_CACHE to another disk`,
          )
        }
      })

/**
 * What the cache knows of a revision. huggingface_hub keeps whole listings beside the snapshots; without one there is only
 * the snapshot, and what it lacks is not known: clients fetch file by file.
 */
const resolveOffline = Effect.fnUntraced(function* (settings: Settings.Settings, reference: Reference) {
  const folders = Layout.folders(settings.cache, reference.kind, reference.name)
  const { revision } = reference
  const about = Http.where(settings, reference)
  const known = isCommit(revision) ? revision : yield* Layout.readRef(folders, revision)
  const listing = known === undefined ? undefined : yield* Layout.readTree(folders, known)
  if (known !== undefined && listing !== undefined) {
    const files = listing.filter((entry) => !isOdd(entry)).map(repoFile)
    if (files.every((file) => typeof file !== "string")) return { commit: known, files, complete: true }
  }
  const folder = join(folders.snapshots, known ?? "")
  if (known === undefined || !Fs.existsSync(folder)) {
    const what = known === undefined ? `revision '${revision}'` : `commit ${known}`
    return yield* new NotCached({ ...about, what, cache: settings.cache })
  }
  const paths = yield* Layout.attempt(folder, () =>
    Fs.readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name))
      .toSorted(),
  )
  const files: Array<Digest.RepoFile> = []
  for (const at of paths) {
    const found = yield* Layout.real(folders, at)
    // A link to a blob that is gone is a file that is not there.
    if (found === undefined) continue
    // Blobs are named by their digest; a file that is no link is digested as it is.
    const size = Fs.statSync(found).size
    const hex = Fs.lstatSync(at).isSymbolicLink() ? basename(Fs.readlinkSync(at)) : ""
    const kind = (["sha256", "blob"] as const).find((kind) => Digest.isHex(kind, hex))
    const digest = kind === undefined ? yield* Digest.ofFile(found, "sha256", size) : { kind, hex }
    files.push({ path: relative(folder, at).split(sep).join("/"), size, digest })
  }
  return { commit: known, files, complete: false }
})
