/**
 * `study.lock.yaml`, beside the study: which commit and which bytes its references stand for.
 *
 *     version: 1
 *     sources:
 *       hub:owner/name@main:
 *         commit: 0123456789abcdef0123456789abcdef01234567
 *         uses:
 *           model:
 *             config.json: { size: 519, blob: <git blob id> }
 *             model.safetensors: { size: 1234, sha256: <SHA-256> }
 *
 * A use is what the reference is for: `model`, the name of one file, or the config and split of a data set. All uses of
 * a reference are of one commit. What is pinned is taken as it is, whatever the branch is now; what is not is asked for
 * and pinned, or under `--frozen` refused. Pins are only ever added: to move one, its lines are deleted. The files of a
 * use keep their order: it is the one in which the rows of a data set are read.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import { dirname, join } from "node:path"
import { isMap, isScalar, LineCounter, parseDocument, stringify, type Node } from "yaml"
import { isHex, type Digest, type RepoFile } from "./Digest.ts"
import { unsafePath } from "./Layout.ts"
import * as Reference from "./Reference.ts"

export interface Pin {
  readonly commit: string
  readonly uses: ReadonlyMap<string, ReadonlyArray<RepoFile>>
}
/** By reference, as `Reference.show` writes it. */
export type Lock = ReadonlyMap<string, Pin>

export const empty: Lock = new Map()

/** Of the study in this file. All studies of a folder share it, and so agree on what a reference stands for. */
export const fileOf = (study: string): string => join(dirname(study), "study.lock.yaml")

/** The file is not a lock; nothing of it is used. */
export class BadLock extends Schema.TaggedError<BadLock>()("BadLock", {
  file: Schema.String,
  line: Schema.Int,
  column: Schema.Int,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file}:${this.line}:${this.column}: ${this.reason}; restore the file, or delete the entry and run without --frozen to pin it anew`
  }
}
export class LockUnwritable extends Schema.TaggedError<LockUnwritable>()("LockUnwritable", {
  file: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file} cannot be written: ${this.reason}`
  }
}
/** Under `--frozen`: what the lock does not pin is not used. */
export class NotPinned extends Schema.TaggedError<NotPinned>()("NotPinned", {
  file: Schema.String,
  source: Schema.String,
  use: Schema.String,
}) {
  override get message() {
    return `${this.file} does not pin ${this.source} (${this.use}), and --frozen allows nothing else; run once without --frozen to pin it: assay run <study>`
  }
}

/** The files of a use and their commit; or, where only other uses are pinned, the commit that this one must be of. */
export const check = (
  lock: Lock,
  reference: Reference.Reference,
  use: string,
): { readonly commit: string; readonly files: ReadonlyArray<RepoFile> | undefined } | undefined => {
  const pin = lock.get(Reference.show(reference))
  return pin === undefined ? undefined : { commit: pin.commit, files: pin.uses.get(use) }
}

/** With a use added. What is pinned already stays: the first to pin a reference decides on its commit. */
export const pin = (
  lock: Lock,
  reference: Reference.Reference,
  use: string,
  resolved: { readonly commit: string; readonly files: ReadonlyArray<RepoFile> },
): Lock => {
  const source = Reference.show(reference)
  const before = lock.get(source)
  if (before !== undefined && (before.commit !== resolved.commit || before.uses.has(use))) return lock
  const uses = new Map(before?.uses).set(use, resolved.files)
  return new Map(lock).set(source, { commit: resolved.commit, uses })
}

/** An absent file pins nothing. */
export const read = (file: string): Effect.Effect<Lock, BadLock> =>
  Effect.try({ try: () => load(file), catch: (cause) => cause as BadLock })

/** Throws `BadLock`. */
const load = (file: string): Lock => {
  let text: string
  try {
    if (!Fs.existsSync(file)) return empty
    text = Fs.readFileSync(file, "utf8")
  } catch (cause) {
    throw new BadLock({ file, line: 1, column: 1, reason: (cause as Error).message })
  }
  return parse(file, text)
}

const HEADER = `# What this study takes from the hub, pinned by \`assay run\`. Keep this file with the study: with it, everyone gets
# the same bytes. To move a source to what its branch is now, delete its lines and run again.
`

const byName = <A>([a]: readonly [string, A], [b]: readonly [string, A]) => (a < b ? -1 : a > b ? 1 : 0)
const sorted = <A, B>(entries: Iterable<readonly [string, A]>, value: (a: A) => B): { readonly [key: string]: B } =>
  Object.fromEntries([...entries].toSorted(byName).map(([key, a]) => [key, value(a)]))

/** The same lock, the same text. */
export const show = (lock: Lock): string => {
  const uses = (files: ReadonlyArray<RepoFile>) =>
    new Map(files.map(({ path, size, digest }) => [path, { size, [digest.kind]: digest.hex }]))
  const sources = sorted(lock, ({ commit, uses: all }) => ({ commit, uses: sorted(all, uses) }))
  return HEADER + stringify({ version: 1, sources }, { lineWidth: 0 })
}

/** How long another's writing is waited for, and after how long it is taken for dead. Milliseconds. */
const PATIENCE = 10_000

/**
 * Changes the lock in one step, whoever else does: the draft that is renamed over the file is also what keeps others
 * out. Gives what the file then says.
 */
export const update = (file: string, change: (lock: Lock) => Lock): Effect.Effect<Lock, BadLock | LockUnwritable> =>
  Effect.gen(function* () {
    const unwritable = (reason: string) => new LockUnwritable({ file, reason })
    const draft = `${file}.draft`
    for (let waited = 0; ; waited += 50) {
      const lock = yield* Effect.try({
        try: () => tryUpdate(file, draft, change),
        catch: (cause) => (cause instanceof BadLock ? cause : unwritable((cause as Error).message)),
      })
      if (lock !== undefined) return lock
      if (waited > 2 * PATIENCE) return yield* unwritable(`${draft} is in the way; remove it`)
      yield* Effect.sleep(50)
    }
  })

/** In one go, without a turn of the event loop: no fiber of ours comes in between. `undefined`: someone else writes. */
const tryUpdate = (file: string, draft: string, change: (lock: Lock) => Lock): Lock | undefined => {
  const found = Fs.statSync(draft, { throwIfNoEntry: false })
  if (found !== undefined && isStale(found)) clear(draft)
  let handle: number
  try {
    handle = Fs.openSync(draft, "wx")
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") return undefined
    throw cause
  }
  let published = false
  try {
    const before = load(file)
    const after = change(before)
    if (after !== before) {
      Fs.writeSync(handle, show(after))
      Fs.fsyncSync(handle)
      Fs.renameSync(draft, file)
      published = true
    }
    return after
  } catch (cause) {
    // Someone took our draft for a stale one: once more.
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined
    throw cause
  } finally {
    Fs.closeSync(handle)
    // After the renaming, a draft is another's.
    if (!published) Fs.rmSync(draft, { force: true })
  }
}

/** Left by a process that was killed while it wrote. */
const isStale = ({ mtimeMs }: Fs.Stats) => Date.now() - mtimeMs > PATIENCE

/**
 * Removes a stale draft. It is renamed first, which only one process can do: another may have removed it since we looked,
 * and begun one of its own. Such a one is given back.
 */
const clear = (draft: string): void => {
  const aside = `${draft}.${randomBytes(4).toString("hex")}`
  try {
    Fs.renameSync(draft, aside)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return
    throw cause
  }
  try {
    // Not over one that someone began meanwhile.
    if (!isStale(Fs.statSync(aside))) Fs.linkSync(aside, draft)
  } catch {
    // Its writer begins again when it finds it gone.
  } finally {
    Fs.rmSync(aside, { force: true })
  }
}

const MAX_BYTES = 64 << 20

/** Throws `BadLock`. */
const parse = (file: string, text: string): Lock => {
  const lines = new LineCounter()
  const fail = (offset: number, reason: string): never => {
    const { line, col } = lines.linePos(offset)
    throw new BadLock({ file, line, column: col, reason })
  }
  if (text.length > MAX_BYTES) fail(0, `has ${text.length} characters; no lock is that long`)
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    stringKeys: true,
    resolveKnownTags: false,
  })
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined) fail(problem.pos[0], `is not YAML: ${problem.message}`)

  const offset = (node: Node | null | undefined) => node?.range?.[0] ?? 0
  /** The entries of a mapping; with `keys`, exactly these. */
  const entries = (node: unknown, what: string, parent: number, keys?: ReadonlyArray<string>) => {
    if (!isMap<Node, Node | null>(node)) return fail(offset(node as Node | null) || parent, `${what} must be a mapping`)
    const found = node.items.map(({ key, value }) => {
      const name = isScalar(key) ? key.value : undefined
      if (typeof name !== "string") return fail(offset(key), `${what} has a key that is no plain text`)
      if (keys !== undefined && !keys.includes(name)) return fail(offset(key), `${what} has the unknown key '${name}'`)
      return { name, value, at: offset(value) || offset(key), key: offset(key) }
    })
    const lacking = keys?.find((key) => !found.some(({ name }) => name === key))
    return lacking === undefined ? found : fail(offset(node), `${what} lacks '${lacking}'`)
  }
  const scalar = (node: unknown) => (isScalar(node) ? node.value : undefined)
  const entry = (all: ReturnType<typeof entries>, name: string) => all.find((entry) => entry.name === name)!

  const repoFile = (path: string, node: unknown, at: number, key: number): RepoFile => {
    const unsafe = unsafePath(path)
    if (unsafe !== undefined) fail(key, `the file name ${JSON.stringify(path)} ${unsafe}`)
    const fields = entries(node, `the file ${path}`, at)
    const kind = fields
      .map(({ name }) => name)
      .find((name): name is Digest["kind"] => name === "sha256" || name === "blob")
    if (fields.length !== 2 || kind === undefined || !fields.some(({ name }) => name === "size")) {
      return fail(at, `the file ${path} must have its size and one of sha256 and blob`)
    }
    const size = scalar(entry(fields, "size").value)
    const hex = scalar(entry(fields, kind).value)
    if (!Number.isSafeInteger(size) || (size as number) < 0)
      fail(entry(fields, "size").at, "size must be a number of bytes")
    if (!isHex(kind, hex))
      return fail(entry(fields, kind).at, `${kind} must be ${kind === "blob" ? 40 : 64} hexadecimal digits`)
    return { path, size: size as number, digest: { kind, hex } }
  }

  const top = entries(document.contents, "a lock", 0, ["version", "sources"])
  const version = entry(top, "version")
  if (scalar(version.value) !== 1) fail(version.at, "version must be 1; a newer Assay wrote this lock")
  const lock = new Map<string, Pin>()
  for (const { name, value, at, key } of entries(entry(top, "sources").value, "sources", entry(top, "sources").at)) {
    const reference = Reference.read(name)
    if (typeof reference === "string") return fail(key, `'${name}' ${reference}`)
    if (Reference.show(reference) !== name) {
      return fail(key, `'${name}' must be written as '${Reference.show(reference)}'`)
    }
    const fields = entries(value, name, at, ["commit", "uses"])
    const commit = scalar(entry(fields, "commit").value)
    if (typeof commit !== "string" || !Reference.isCommit(commit)) {
      return fail(entry(fields, "commit").at, "commit must be 40 hexadecimal digits")
    }
    if (Reference.isCommit(reference.revision) && reference.revision !== commit) {
      return fail(entry(fields, "commit").at, `commit must be the one that '${name}' names`)
    }
    const uses = new Map<string, ReadonlyArray<RepoFile>>()
    for (const use of entries(entry(fields, "uses").value, "uses", entry(fields, "uses").at)) {
      const files = entries(use.value, `'${use.name}'`, use.at)
      if (files.length === 0) fail(use.at, `'${use.name}' must name a file`)
      uses.set(
        use.name,
        files.map((file) => repoFile(file.name, file.value, file.at, file.key)),
      )
    }
    lock.set(name, { commit, uses })
  }
  return lock
}
