/**
 * Unfinished downloads, beside the blobs they will become: `<blob>.<claim>.incomplete`. No two writers ever share one
 * file, so that no lock has to hold for the cache to stay whole.
 *
 * A writer's claim says who it is. Whoever gives up on purpose hands its file over under the name
 * `<blob>.resume.incomplete`; a file whose writer is dead can be taken as it is. Both are taken by renaming, which only
 * one can win. A writer that finds an older one alive stands back and waits. The partial files of other programs are
 * left alone: theirs may be written from several ends at once.
 */
import * as Effect from "effect/Effect"
import { createHash, randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import { hostname } from "node:os"
import { join } from "node:path"
import { attempt } from "./Layout.ts"
import type { CacheError } from "./HubError.ts"

/** A writer touches its file this often… (milliseconds) */
export const BEAT = 5_000
/** …and one on another machine that has not for this long counts as gone. */
const GONE = 60_000

const quietly = (read: () => string): string => {
  try {
    return read()
  } catch {
    return ""
  }
}
/** In clock ticks since boot, so that a process number used again is not mistaken; empty where the system does not tell. */
const startOf = (pid: number): string => {
  const stat = quietly(() => Fs.readFileSync(`/proc/${pid}/stat`, "utf8"))
  // The second field is the command in parentheses and may hold anything; the start is the 20th after it.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? ""
}
const short = (text: string) => createHash("sha256").update(text).digest("hex").slice(0, 8)
/** Two containers may count their processes alike. */
const host = short(`${hostname()} ${quietly(() => Fs.readlinkSync("/proc/self/ns/pid"))}`)
const boot = short(quietly(() => Fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8")))

interface Claim {
  /** Of the file. */
  readonly name: string
  /** Milliseconds since 1970: the older of two goes on. */
  readonly since: number
  readonly host: string
  readonly boot: string
  readonly pid: number
  readonly start: string
}

/** What a file name says of its writer; `undefined` for other files. */
const claimed = (blob: string, name: string): Claim | undefined => {
  const [since, host, boot, pid, start, , end, ...more] = name.slice(blob.length + 1).split(".")
  if (!name.startsWith(`${blob}.`) || end !== "incomplete" || more.length > 0) return undefined
  return { name, since: Number.parseInt(since!, 36), host: host!, boot: boot!, pid: Number(pid), start: start! }
}

type State = "alive" | "dead" | "unknown"

const stateOf = (folder: string, claim: Claim): State => {
  if (claim.host !== host) {
    const touched = Fs.statSync(join(folder, claim.name), { throwIfNoEntry: false })?.mtimeMs ?? 0
    // Never taken over: that its beat cannot be seen from here does not prove that it stopped writing.
    return Date.now() - touched < GONE ? "alive" : "unknown"
  }
  if (claim.boot !== boot) return "dead"
  try {
    process.kill(claim.pid, 0)
  } catch (cause) {
    // EPERM: it lives and belongs to someone else.
    if ((cause as NodeJS.ErrnoException).code !== "EPERM") return "dead"
  }
  return startOf(claim.pid) === claim.start ? "alive" : "dead"
}

const handedOver = (blob: string) => `${blob}.resume.incomplete`

/** A file to write to, ours alone; what it already holds came from an earlier try. Or the one who writes it already. */
export type Taken = { readonly file: string } | { readonly writer: string }

export const take = (folder: string, blob: string): Effect.Effect<Taken, CacheError> =>
  attempt(join(folder, blob), () => {
    Fs.mkdirSync(folder, { recursive: true })
    const first = claims(folder, blob).find((other) => stateOf(folder, other) === "alive")
    if (first !== undefined) return { writer: join(folder, first.name) }

    const since = Date.now().toString(36)
    const who = [host, boot, process.pid, startOf(process.pid), randomBytes(4).toString("hex")]
    const own = claimed(blob, [blob, since, ...who, "incomplete"].join("."))!
    const file = join(folder, own.name)
    const [best, ...others] = leftBehind(folder, blob)
    if (best === undefined || !moved(best, file)) Fs.closeSync(Fs.openSync(file, "wx"))
    for (const other of others) Fs.rmSync(other, { force: true })
    touch(file)
    // Another may have looked before either of us was to be seen.
    const older = claims(folder, blob).find((other) => precedes(other, own) && stateOf(folder, other) === "alive")
    if (older === undefined) return { file }
    handOver(file, folder, blob)
    return { writer: join(folder, older.name) }
  })

const claims = (folder: string, blob: string) => Fs.readdirSync(folder).flatMap((name) => claimed(blob, name) ?? [])

const precedes = (a: Claim, b: Claim) => a.since < b.since || (a.since === b.since && a.name < b.name)

/** What nobody writes to any more, the largest first. */
const leftBehind = (folder: string, blob: string): ReadonlyArray<string> => {
  const dead = claims(folder, blob).filter((claim) => stateOf(folder, claim) === "dead")
  const size = (file: string) => Fs.statSync(file, { throwIfNoEntry: false })?.size ?? -1
  return [handedOver(blob), ...dead.map(({ name }) => name)]
    .map((name) => join(folder, name))
    .filter((file) => size(file) >= 0)
    .toSorted((a, b) => size(b) - size(a))
}

const moved = (from: string, to: string): boolean => {
  try {
    Fs.renameSync(from, to)
    return true
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return false
    throw cause
  }
}

/** The beat. */
export const touch = (file: string): void => {
  const now = Date.now() / 1000
  Fs.utimesSync(file, now, now)
}

/** Gives up a file of ours so that another can go on from it; an empty one vanishes. */
export const handOver = (file: string, folder: string, blob: string): void => {
  const size = Fs.statSync(file, { throwIfNoEntry: false })?.size
  if (size === undefined) return
  if (size === 0) Fs.rmSync(file, { force: true })
  else Fs.renameSync(file, join(folder, handedOver(blob)))
}

/** How far another writer is; `undefined` once it has finished or given up. */
export const progressOf = (writer: string, blob: string): number | undefined => {
  const size = Fs.statSync(writer, { throwIfNoEntry: false })?.size
  const at = writer.lastIndexOf(blob)
  const claim = claimed(blob, writer.slice(at))
  return size !== undefined && claim !== undefined && stateOf(writer.slice(0, at), claim) === "alive" ? size : undefined
}
