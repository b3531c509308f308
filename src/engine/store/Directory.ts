/**
 * The cache's directory: `current.json` (format, LMDB version, generation), one `generation-N/` with the data, and in
 * `holders/` a file for each process that has it open. The file is empty, as it must fit a full disk; its name says who.
 *
 * Compaction and clearing make a new generation and swap the pointer. They may do so only while no other process holds
 * the cache, as one that went on writing to the old generation would lose its work. Whoever opens leaves a file and then
 * looks for a swap in progress; whoever swaps leaves a file and then looks for others: one of them sees the other.
 */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { join } from "node:path"
import { isAlive, type Owner } from "./Owner.ts"
import { StoreError } from "./StoreError.ts"

/** Bumped when an older release could misread what a newer one writes. */
const format = 1
/** Major version of lmdb-js; majors must not be mixed on one file. */
const lmdb = 3

interface Current {
  readonly format: number
  readonly lmdb: number
  readonly generation: number
}
interface Holder {
  readonly owner: Owner
  readonly role: Role
}
/** `open`: reads and writes. `swap`: is about to move the pointer. */
type Role = "open" | "swap"

const currentPath = (directory: string) => join(directory, "current.json")
export const generationPath = (directory: string, generation: number) => join(directory, `generation-${generation}`)

const nameOf = ({ owner: { session, pid, start, boot, host }, role }: Holder): string =>
  [role, session, pid, start, boot, encodeURIComponent(host)].join("~")
const holderOf = (name: string): Holder | undefined => {
  const [role, session, pid, start, boot, host] = name.split("~")
  if ((role !== "open" && role !== "swap") || host === undefined) return undefined
  return {
    role,
    owner: { session: session!, pid: Number(pid), start: start!, boot: boot!, host: decodeURIComponent(host) },
  }
}
const holderPath = (directory: string, holder: Holder) => join(directory, "holders", nameOf(holder))

export const codeOf = (cause: unknown) => (cause as { readonly code?: unknown } | undefined)?.code
const isRefusal = (cause: unknown) => ["EROFS", "EACCES", "EPERM"].includes(String(codeOf(cause)))

/** One sentence for what the operating system said about the directory. */
const failed = (directory: string) => (cause: unknown) =>
  new StoreError({
    kind: isRefusal(cause) ? "ReadOnly" : codeOf(cause) === "ENOSPC" ? "Full" : "Io",
    reason: `cannot use the cache ${directory}: ${cause instanceof Error ? cause.message : String(cause)}`,
  })

/** File-system types (statfs) on which LMDB's locks and memory maps do not hold between hosts. */
const networks = new Map([
  [0x6969, "NFS"],
  [0x517b, "SMB"],
  [0xff534d42, "CIFS"],
  [0xfe534d42, "SMB2"],
  [0x01021997, "9P"],
  [0x00c36400, "Ceph"],
  [0x5346414f, "AFS"],
  [0x0bd00bd0, "Lustre"],
  [0x47504653, "GPFS"],
  [0x73757245, "Coda"],
])
export const networkOf = (directory: string): string | undefined => networks.get(fs.statfsSync(directory).type >>> 0)

/** Whole or not at all, and on disk before it counts. */
const writeDurably = (directory: string, path: string, content: string, session: string) => {
  const draft = `${path}.${session}`
  const file = fs.openSync(draft, "w")
  try {
    fs.writeSync(file, content)
    fs.fsyncSync(file)
  } finally {
    fs.closeSync(file)
  }
  fs.renameSync(draft, path)
  const parent = fs.openSync(directory, "r")
  try {
    fs.fsyncSync(parent)
  } finally {
    fs.closeSync(parent)
  }
}

const readJson = (path: string): unknown => {
  try {
    return JSON.parse(fs.readFileSync(path, "utf8"))
  } catch {
    return undefined
  }
}

const refuse = (kind: "Format" | "Damaged", reason: string) => Effect.fail(new StoreError({ kind, reason }))

/** The generation in use. Fails with `Format` when another release must read this cache. */
const current = (directory: string): Effect.Effect<number | undefined, StoreError> =>
  Effect.suspend(() => {
    if (!fs.existsSync(currentPath(directory))) return Effect.succeed(undefined)
    const found = readJson(currentPath(directory)) as Current | undefined
    if (typeof found?.generation !== "number")
      return refuse(
        "Damaged",
        `${currentPath(directory)} is damaged: clear the cache, its results will be computed again`,
      )
    if (found.format > format)
      return refuse(
        "Format",
        `the cache ${directory} has format ${found.format} and this release knows ${format}: use a newer release, another cache directory, or clear it`,
      )
    if (found.format !== format || found.lmdb !== lmdb)
      return refuse(
        "Format",
        `the cache ${directory} was written with LMDB ${found.lmdb}, format ${found.format}; this release uses LMDB ${lmdb}, format ${format}: use another cache directory, or clear it`,
      )
    return Effect.succeed(found.generation)
  })

const point = (directory: string, generation: number, session: string) =>
  Effect.try({
    try: () => {
      const content: Current = { format, lmdb, generation }
      writeDurably(directory, currentPath(directory), JSON.stringify(content), session)
    },
    catch: failed(directory),
  })

const hold = (directory: string, owner: Owner, role: Role) =>
  Effect.try({
    try: () => {
      fs.mkdirSync(join(directory, "holders"), { recursive: true })
      fs.closeSync(fs.openSync(holderPath(directory, { owner, role }), "w"))
    },
    catch: failed(directory),
  })
const release = (directory: string, owner: Owner, role: Role) =>
  Effect.sync(() => fs.rmSync(holderPath(directory, { owner, role }), { force: true }))

/** Tell that the owner still lives, for processes on other hosts. */
export const touch = (directory: string, owner: Owner): void => {
  const now = new Date()
  try {
    fs.utimesSync(holderPath(directory, { owner, role: "open" }), now, now)
  } catch {
    // The cache was removed under a live run; its next write says so.
  }
}

/** The other live processes that hold the cache. What dead ones left is removed on the way. */
const others = (directory: string, here: Owner): ReadonlyArray<Holder> =>
  fs.readdirSync(join(directory, "holders")).flatMap((name) => {
    const holder = holderOf(name)
    if (holder === undefined || holder.owner.session === here.session) return []
    const path = join(directory, "holders", name)
    const heard = fs.statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
    if (isAlive(holder.owner, heard, here)) return [holder]
    fs.rmSync(path, { force: true })
    return []
  })

export const isShared = (directory: string, here: Owner): boolean => others(directory, here).length > 0

const busy = (directory: string, holders: ReadonlyArray<Holder>) => {
  const pids = [...new Set(holders.map(({ owner }) => owner.pid))].join(", ")
  return new StoreError({
    kind: "Busy",
    reason: `the cache ${directory} is in use by process ${pids}: wait for it to end, then try again`,
  })
}

export interface Opened {
  readonly generation: number
  readonly readOnly: boolean
}

/** How long to wait for a swap: ten looks, twice as far apart each time. */
const looks = 10

/** Hold the cache until the scope closes. A directory that cannot be written is opened to read. */
export const enter = Effect.fnUntraced(function* (directory: string, here: Owner, allowNetwork: boolean) {
  const made = yield* Effect.exit(
    Effect.try({ try: () => fs.mkdirSync(directory, { recursive: true }), catch: failed(directory) }),
  )
  if (!fs.existsSync(directory)) yield* made
  const network = allowNetwork ? undefined : networkOf(directory)
  if (network !== undefined)
    return yield* new StoreError({
      kind: "Network",
      reason: `the cache ${directory} is on a network file system (${network}), where its locks do not hold: choose a local directory, or allow it in the options if only one host uses it`,
    })

  for (let look = 0; ; look++) {
    const refusal = yield* Effect.match(hold(directory, here, "open"), {
      onFailure: (error) => error,
      onSuccess: () => undefined,
    })
    if (refusal !== undefined) {
      const generation = yield* current(directory)
      if (refusal.kind !== "ReadOnly" || generation === undefined) return yield* refusal
      return { generation, readOnly: true } satisfies Opened
    }
    const swapping = others(directory, here).filter(({ role }) => role === "swap")
    if (swapping.length === 0) break
    yield* release(directory, here, "open")
    if (look === looks) return yield* busy(directory, swapping)
    yield* Effect.sleep(10 * 2 ** look)
  }
  yield* Effect.addFinalizer(() => release(directory, here, "open"))
  const generation = yield* current(directory)
  if (generation === undefined) yield* point(directory, 1, here.session)
  return { generation: generation ?? 1, readOnly: false } satisfies Opened
})

/** Runs the effect while no other process can enter; `Busy` when one is inside. */
const alone = <A, E, R>(directory: string, here: Owner, effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    hold(directory, here, "swap"),
    () =>
      Effect.suspend((): Effect.Effect<A, E | StoreError, R> => {
        const inside = others(directory, here)
        return inside.length > 0 ? Effect.fail(busy(directory, inside)) : effect
      }),
    () => release(directory, here, "swap"),
  )

const removeOthers = (directory: string, generation: number) =>
  Effect.try({
    try: () => {
      for (const name of fs.readdirSync(directory))
        if (/^generation-\d+$/.test(name) && join(directory, name) !== generationPath(directory, generation))
          fs.rmSync(join(directory, name), { recursive: true, force: true })
    },
    catch: failed(directory),
  })

/**
 * Replace the generation that this process holds: `fill` writes the next one, `reopen` moves this process to it. Killed
 * before the pointer moves, the old one stands; after, the new one.
 */
export const replace = <R>(
  directory: string,
  here: Owner,
  generation: number,
  fill: (path: string) => Effect.Effect<void, StoreError, R>,
  reopen: (generation: number) => Effect.Effect<void, StoreError, R>,
): Effect.Effect<void, StoreError, R> => {
  const next = generation + 1
  const path = generationPath(directory, next)
  return alone(
    directory,
    here,
    Effect.gen(function* () {
      yield* Effect.try({ try: () => fs.rmSync(path, { recursive: true, force: true }), catch: failed(directory) })
      yield* fill(path)
      yield* point(directory, next, here.session)
      yield* reopen(next)
      yield* removeOthers(directory, next)
    }),
  )
}

/** Start an empty generation, whatever state the old one is in. `Busy` while any process holds the cache. */
export const clear = (directory: string, here: Owner): Effect.Effect<void, StoreError> =>
  alone(
    directory,
    here,
    Effect.gen(function* () {
      const found = readJson(currentPath(directory)) as Current | undefined
      const next = (typeof found?.generation === "number" ? found.generation : 0) + 1
      yield* point(directory, next, here.session)
      yield* removeOthers(directory, next)
    }),
  )
