/** One case: what came of it, in what time and memory, and whether that is allowed. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Chance from "./Chance.ts"
import * as Formats from "./Formats.ts"

export interface Verdict {
  readonly seed: number
  readonly format: string
  readonly outcome: "loaded" | "refused" | "crashed"
  /** Why it was refused, or what went wrong. */
  readonly message: string
  /** Seconds of processor time: those of a clock depend on what else runs. */
  readonly seconds: number
  /** Growth of the process to its peak, in bytes. */
  readonly memory: number
  /** What is not allowed, if anything. */
  readonly offence?: string | undefined
}

export const MOST_SECONDS = 2
/** Beside the size of the files. */
export const MOST_MEMORY = 128 << 20
/** Garbage that may lie about before a case, and that the case may use again unseen. */
const SLACK = 16 << 20
/** Resident after the last time that garbage was collected. */
let settled = 0
/** Of a message: a sentence, not a file. */
const LONGEST = 3000

/** What engines and libraries say of a bug; nothing that a file could be blamed for. */
const BUG =
  /\[object |is not iterable|Cannot (?:read|set|convert|mix)|call stack|Invalid (?:array|typed|string|count|time)|out of (?:bounds|range|memory)|allocation failed|\bBigInt\b|\n\s+at (?!\[)/i
/** The same, but a template may well speak of functions and undefined values. */
const BUG_IN_FILES = /\bundefined\b|is not a function/
/** Names a file, if not one of those that are there. */
const FILE = /\.(?:json|txt|model|safetensors|bin|gguf|jinja)\b/
/** Those that speak of text or of the conversation, not of a file. */
const NO_FILE = new Set([
  "Unencodable",
  "VocabularyMismatch",
  "NoTokenizer",
  "BadTemplate",
  "TemplateFailed",
  "Refused",
])

/** Elsewhere only what a case leaves behind is seen. */
const LINUX = process.platform === "linux"
/** Bytes, from the kernel: resident now, and at most since `fresh`. */
const memory = (): { readonly now: number; readonly peak: number } => {
  if (!LINUX) return { now: process.memoryUsage.rss(), peak: process.memoryUsage.rss() }
  const status = readFileSync("/proc/self/status", "utf8")
  const of = (key: string) => 1024 * Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, "m").exec(status)![1])
  return { now: of("VmRSS"), peak: of("VmHWM") }
}
/** Lets the peak begin anew. */
const fresh = () => LINUX && writeFileSync("/proc/self/clear_refs", "5")

const offenceOf = (error: unknown, folder: string): string | undefined => {
  if (!(error instanceof Error)) return "is no error"
  const { message } = error
  if (error instanceof TypeError || error instanceof RangeError) return `is a ${error.name}`
  if (message.length > LONGEST) return `takes ${message.length} characters`
  const tag = "_tag" in error ? String(error._tag) : ""
  if (BUG.test(message) || (!NO_FILE.has(tag) && BUG_IN_FILES.test(message))) return "speaks like a bug"
  if (!NO_FILE.has(tag) && !FILE.test(message) && !message.includes(folder)) return "names no file"
  return undefined
}

/** Of the case that a seed makes, in a folder of its own. */
export const judge = async (seed: number, root: string): Promise<Verdict> => {
  const format = Formats.formatOf(seed)
  const folder = join(root, String(seed))
  const { files, run } = format.make(Chance.make(seed))
  mkdirSync(folder, { recursive: true })
  let size = 0
  for (const [name, bytes] of Object.entries(files)) {
    size += bytes.length
    writeFileSync(join(folder, name), bytes)
  }
  if (memory().now > settled + SLACK) {
    globalThis.gc?.()
    settled = memory().now
  }
  fresh()
  const before = memory().now
  const started = process.cpuUsage()
  const exit = await Effect.runPromiseExit(run(folder))
  const { system, user } = process.cpuUsage(started)
  const growth = memory().peak - before
  rmSync(folder, { recursive: true })

  const seconds = (system + user) / 1e6
  const verdict = { seed, format: format.name, seconds, memory: growth }
  const measured =
    seconds > MOST_SECONDS
      ? `took ${seconds.toFixed(1)} s`
      : growth > size + MOST_MEMORY
        ? `took ${(growth / 2 ** 20).toFixed(0)} MiB for ${size} bytes`
        : undefined
  if (Exit.isSuccess(exit)) return { ...verdict, outcome: "loaded", message: "", offence: measured }
  const error = Cause.squash(exit.cause)
  const message = (error instanceof Error ? error.message : String(error)).replaceAll(`${folder}/`, "")
  if (!Cause.hasFails(exit.cause)) {
    const stack = error instanceof Error ? (error.stack ?? message) : message
    return { ...verdict, outcome: "crashed", message, offence: `is a defect: ${stack.slice(0, 1500)}` }
  }
  const offence = offenceOf(error, folder)
  return { ...verdict, outcome: "refused", message, offence: offence ?? measured }
}
