/**
 * The two databases in LMDB. Only synchronous transactions write: asynchronous ones lost acknowledged commits between
 * processes. Handles stay on the thread that opened them.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { open as openLmdb, type RootDatabase } from "lmdb"
import { mkdirSync, statfsSync, statSync } from "node:fs"
import { join } from "node:path"
import * as Database from "./Database.ts"
import * as Directory from "./Directory.ts"
import { damage } from "./LmdbFile.ts"
import type { Owner } from "./Owner.ts"
import { StoreError } from "./StoreError.ts"

type Name = "index" | "objects"
/** Bytes of address space, not of disk: large enough that no process has to map the file anew. */
const mapSize = { index: 8 * 2 ** 30, objects: 2 ** 40 }
/** Bytes. LMDB says "I/O error" for a full disk; below this, that is what it means. */
const scarce = 64 * 2 ** 20

const fileOf = (directory: string, generation: number, name: Name) =>
  join(Directory.generationPath(directory, generation), `${name}.mdb`)

const freeBytes = (directory: string): number => {
  try {
    const { bavail, bsize } = statfsSync(directory)
    return bavail * bsize
  } catch {
    return Number.POSITIVE_INFINITY
  }
}

/** LMDB's and the operating system's codes: MAP_FULL, ENOSPC, EDQUOT, EFBIG; INVALID, CORRUPTED, PAGE_NOTFOUND, PANIC. */
const full = new Set<unknown>([-30792, 28, 122, 27])
const damaged = new Set<unknown>([-30793, -30796, -30797, -30795])
/** EIO: also what LMDB says when a write came out short. */
const short = 5

const failure = (directory: string) => (cause: unknown) => {
  if (cause instanceof StoreError) return cause
  const code = Directory.codeOf(cause)
  const said = cause instanceof Error ? cause.message : String(cause)
  if (full.has(code) || (code === short && freeBytes(directory) < scarce))
    return new StoreError({
      kind: "Full",
      reason: `no room to write to the cache ${directory}: free some space or run gc; everything stored so far is intact`,
    })
  if (damaged.has(code))
    return new StoreError({
      kind: "Damaged",
      reason: `the cache ${directory} is damaged (${said}): clear it, its results will be computed again`,
    })
  const hint = code === short ? " (a quota or a limit on file sizes may be the cause)" : ""
  return new StoreError({ kind: "Io", reason: `cannot use the cache ${directory}: ${said}${hint}` })
}

const openFile = (path: string, name: Name, readOnly: boolean): RootDatabase<Buffer, Uint8Array> =>
  openLmdb<Buffer, Uint8Array>({
    path,
    readOnly,
    mapSize: mapSize[name],
    maxReaders: 1024,
    keyEncoding: "binary",
    encoding: "binary",
    overlappingSync: false,
    noSync: false,
    useWritemap: false,
    remapChunks: false,
    cache: false,
    compression: false,
  })

const readOnlyError = (directory: string) =>
  new StoreError({
    kind: "ReadOnly",
    reason: `the cache ${directory} cannot be written: choose another directory or change its permissions`,
  })

const backend = (db: RootDatabase<Buffer, Uint8Array>, readOnly: StoreError | undefined): Database.Backend => ({
  get: (key) => {
    const value = db.getBinaryFast(key)
    // The buffer is LMDB's own and longer than it says.
    return value && new Uint8Array(value.buffer, value.byteOffset, value.length)
  },
  page: (from, to, limit, reverse) => [
    ...db.getKeys(
      reverse
        ? { start: to, exclusiveStart: true, end: from, inclusiveEnd: true, reverse, limit, snapshot: false }
        : { start: from, end: to, limit, snapshot: false },
    ),
  ],
  // `body` must not return a promise: the transaction would stay open until it settles.
  transact: (body) => {
    db.transactionSync(() => {
      body()
    })
  },
  put: (key, value) => void db.put(key, value as Buffer),
  remove: (key) => void db.remove(key),
  ...(readOnly && { readOnly }),
})

interface Pair {
  readonly index: RootDatabase<Buffer, Uint8Array>
  readonly objects: RootDatabase<Buffer, Uint8Array>
}

const openPair = (directory: string, generation: number, readOnly: boolean): Effect.Effect<Pair, StoreError> => {
  const at = (name: Name) => fileOf(directory, generation, name)
  const sound = Effect.suspend(() => {
    for (const name of ["index", "objects"] as const) {
      const wrong = damage(at(name))
      if (wrong !== undefined)
        return Effect.fail(
          new StoreError({
            kind: "Damaged",
            reason: `${at(name)} ${wrong}: clear the cache, its results will be computed again`,
          }),
        )
    }
    return Effect.void
  })
  const opened = Effect.try({
    try: () => {
      if (!readOnly) mkdirSync(Directory.generationPath(directory, generation), { recursive: true })
      return { index: openFile(at("index"), "index", readOnly), objects: openFile(at("objects"), "objects", readOnly) }
    },
    catch: failure(directory),
  })
  // Opening while others create or close the files fails now and then, and succeeds a moment later.
  return Effect.retry(Effect.andThen(sound, opened), {
    while: (error) => error.kind === "Io" || error.kind === "Damaged",
    schedule: Schedule.exponential("20 millis"),
    times: 4,
  })
}
const closePair = ({ index, objects }: Pair) =>
  Effect.promise(() => Promise.all([index.close(), objects.close()]).then(() => {}))

export const open = Effect.fnUntraced(function* (
  directory: string,
  here: Owner,
  allowNetwork: boolean,
): Effect.fn.Return<Database.Files, StoreError, Scope.Scope> {
  const entered = yield* Directory.enter(directory, here, allowNetwork)
  const readOnly = entered.readOnly ? readOnlyError(directory) : undefined
  let generation = entered.generation
  let pair = yield* openPair(directory, generation, entered.readOnly)
  let backends = { index: backend(pair.index, readOnly), objects: backend(pair.objects, readOnly) }
  const index = Database.make(() => backends.index, failure(directory))
  const objects = Database.make(() => backends.objects, failure(directory))
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      objects.flush()
      index.flush()
      return closePair(pair)
    }),
  )

  const copy = (path: string) =>
    Effect.forEach(
      ["index", "objects"] as const,
      (name) =>
        Effect.tryPromise({
          try: () => pair[name].backup(join(path, `${name}.mdb`), true),
          catch: failure(directory),
        }),
      { discard: true },
    )
  const reopen = Effect.fnUntraced(function* (next: number) {
    const replaced = pair
    pair = yield* openPair(directory, next, false)
    backends = { index: backend(pair.index, undefined), objects: backend(pair.objects, undefined) }
    generation = next
    yield* closePair(replaced)
  })

  return {
    index,
    objects,
    bytes: () => {
      const sizes = (["index", "objects"] as const).map((name) => statSync(fileOf(directory, generation, name)).size)
      return sizes.reduce((sum, size) => sum + size, 0)
    },
    compact: Effect.suspend(() =>
      readOnly
        ? Effect.fail(readOnly)
        : index.quiesced(objects.quiesced(Directory.replace(directory, here, generation, copy, reopen))),
    ),
    isShared: () => Directory.isShared(directory, here),
    touch: () => Directory.touch(directory, here),
  }
})
