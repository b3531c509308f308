/** Explanations as lines for people. */
import type { Json } from "effect/Schema"
import type { Explanation, Reason } from "./Explain.ts"
import { duration } from "./Quantities.ts"
import type { Trace } from "../store/Trace.ts"

/** How paths are shown. */
export type Shorten = (path: string) => string

/** Reasons of one list that are printed before the rest is only counted. */
const printed = 5

const show = (value: Json | undefined): string => {
  const text = value === undefined ? "(none)" : typeof value === "string" ? value : JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}
const listed = (names: ReadonlyArray<string>) =>
  names.length <= printed
    ? names.join(", ")
    : `${names.slice(0, printed).join(", ")} and ${names.length - printed} more`

/** When and by which run. */
export const origin = ({ cell, provenance: { started, study } }: Trace): string =>
  `${cell} of ${study}, ${new Date(started).toISOString().slice(0, 19).replace("T", " ")} UTC`

const sentence = (reason: Reason, shorten: Shorten): string => {
  switch (reason.kind) {
    case "new":
      return "nothing of its kind has been computed yet"
    case "lost":
      return "its bytes are no longer in the cache"
    case "parameter": {
      const { column, file, line } = reason.position
      const change = `${reason.path.join(".")}: ${show(reason.before)} -> ${show(reason.after)}`
      return `${change}  (${shorten(file)}:${line}:${column})`
    }
    case "code":
      return reason.changed.length === 0 ? "code changed" : `code changed: ${listed(reason.changed.map(shorten))}`
    case "version":
    case "seed":
      return `${reason.kind}: ${show(reason.before)} -> ${show(reason.after)}`
    case "file":
      return reason.path === undefined
        ? `file ${reason.slot} is no longer read`
        : `file ${shorten(reason.path)} changed`
    case "input":
      return `input ${reason.slot} ${reason.changed ? "changed" : "is to be computed first"}: ${reason.cell}`
    case "gathered": {
      const { added, removed } = reason
      const changes = [
        ...(added.length > 0 ? [`${listed(added)} added`] : []),
        ...(removed.length > 0 ? [`${listed(removed)} removed`] : []),
      ]
      return `input ${reason.slot}: ${changes.join("; ")}`
    }
  }
}

const tree = (reasons: ReadonlyArray<Reason>, shorten: Shorten, start: string): ReadonlyArray<string> => {
  const inner = `${" ".repeat(start.length)}because `
  const lines: Array<string> = []
  for (const reason of reasons.slice(0, printed)) {
    lines.push(`${start}${sentence(reason, shorten)}`)
    if (reason.kind === "input") lines.push(...tree(reason.because, shorten, inner))
  }
  if (reasons.length > printed) lines.push(`${start}${reasons.length - printed} more`)
  return lines
}

export const lines = (explanation: Explanation, shorten: Shorten): ReadonlyArray<string> => {
  const { against, cached, cell, reasons } = explanation
  if (cached !== undefined)
    return [`${cell} is cached: computed as ${origin(cached)}, in ${duration(cached.provenance.seconds)}`]
  const compared = against === undefined ? "" : `, compared with ${origin(against)}`
  return [`${cell} is to be computed${compared}:`, ...tree(reasons, shorten, "  ")]
}

/** Where a chain of changed inputs began. */
const root = (reason: Reason): Reason =>
  reason.kind === "input" && reason.because[0] !== undefined ? root(reason.because[0]) : reason

/** The root of it in a few words, for a list of cells. */
export const brief = ({ reasons }: Explanation, shorten: Shorten): string =>
  [...new Set(reasons.map((reason) => sentence(root(reason), shorten)))].slice(0, printed).join("; ")
