/** Who holds a lease or runs: a process, named so that another process can tell whether it still lives. */
import { randomBytes } from "node:crypto"
import { readFileSync, readlinkSync } from "node:fs"
import { hostname } from "node:os"

export interface Owner {
  /** Host name, and on Linux the PID namespace: two containers may count their processes alike. */
  readonly host: string
  /** Changes with every boot; empty where the system does not tell. */
  readonly boot: string
  readonly pid: number
  /** The process's start in clock ticks since boot, so that a reused PID is not mistaken; empty where unknown. */
  readonly start: string
  /** One for each opening of a store. */
  readonly session: string
}

/** A beat must come this often… (milliseconds) */
export const beat = 5_000
/** …and an owner on another host without one for this long counts as dead. */
const patience = 60_000

const read = (path: string): string => {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return ""
  }
}
export const startOf = (pid: number): string => {
  const stat = read(`/proc/${pid}/stat`)
  // The second field is the command in parentheses and may hold anything; the start is the 20th after it.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? ""
}
const namespace = (): string => {
  try {
    return readlinkSync("/proc/self/ns/pid")
  } catch {
    return ""
  }
}

export const self = (): Owner => ({
  host: `${hostname()} ${namespace()}`.trimEnd(),
  boot: read("/proc/sys/kernel/random/boot_id").trim(),
  pid: process.pid,
  start: startOf(process.pid),
  session: randomBytes(8).toString("hex"),
})

/** @param heartbeat milliseconds since 1970; only asked of owners on other hosts. */
export const isAlive = (owner: Owner, heartbeat: number, here: Owner): boolean => {
  if (owner.host !== here.host) return Date.now() - heartbeat < patience
  if (owner.boot !== here.boot) return false
  try {
    process.kill(owner.pid, 0)
  } catch (cause) {
    // EPERM: it lives and belongs to someone else.
    if ((cause as NodeJS.ErrnoException).code !== "EPERM") return false
  }
  return startOf(owner.pid) === owner.start
}
