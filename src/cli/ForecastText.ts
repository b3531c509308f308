/** Forecasts for people, for programs, and for Graphviz. */
import * as ExplainText from "../engine/run/ExplainText.ts"
import type { Plan } from "../engine/plan/Plan.ts"
import { bytes, count, duration } from "../engine/run/Quantities.ts"
import { inputsOf } from "../engine/run/Survey.ts"
import { type Entry, type Forecast, type Totals, totals } from "./Forecast.ts"
import { shorten } from "./Paths.ts"

/** Cells of one stage that are printed before the rest is only counted. */
const printed = 20

const cost = ({ compute, peakMemory, seconds, bytes: disk, unknown }: Totals): string => {
  if (unknown === compute) return "their cost is not known yet"
  const known = `about ${duration(seconds)} of work, ${bytes(peakMemory)} of memory, ${bytes(disk)} of disk`
  return unknown === 0 ? known : `${known}, without ${count(unknown, "cell")} never run before`
}

const stageLines = <R>(stage: string, entries: ReadonlyArray<Entry<R>>): ReadonlyArray<string> => {
  const pending = entries.filter(({ status }) => status === "compute")
  const there = entries.filter(({ status }) => status === "cached").length
  const state = [
    ...(there > 0 ? [`${there} cached`] : []),
    ...(pending.length > 0 ? [`${pending.length} to compute`] : []),
    ...(there + pending.length < entries.length ? [`${entries.length - there - pending.length} not needed`] : []),
  ]
  const because = ({ explanation }: Entry<R>) => ExplainText.brief(explanation, shorten)
  const reasons = new Set(pending.map(because))
  // One reason for all is told once.
  const [shared] = pending.length > 1 && reasons.size === 1 ? reasons : []
  const line = (entry: Entry<R>) => {
    const time = entry.cost === undefined ? [] : [`about ${duration(entry.cost.seconds)}`]
    return `  ${entry.cell.id}: ${[...(shared === undefined ? [because(entry)] : []), ...time].join(", ")}`
  }
  const isTold = shared !== undefined && pending.every(({ cost }) => cost === undefined)
  return [
    `${stage} (${entries[0]!.cell.use}): ${count(entries.length, "cell")}, ${state.join(", ")}`,
    ...(shared === undefined ? [] : [`  ${shared}`]),
    ...(isTold ? [] : pending.slice(0, printed).map(line)),
    ...(isTold || pending.length <= printed ? [] : [`  and ${pending.length - printed} more`]),
  ]
}

export const text = <R>({ study }: Plan<R>, forecast: Forecast<R>): string => {
  const sum = totals(forecast)
  const stages = Map.groupBy(forecast.entries, ({ cell }) => cell.stage)
  const state = sum.compute === 0 ? "nothing to compute" : `${sum.compute} to compute, ${cost(sum)}`
  return [
    ...[...stages].flatMap(([stage, entries]) => stageLines(stage, entries)),
    "",
    `${study.name}: ${count(sum.cells, "cell")}, ${sum.cached} cached, ${state}`,
  ].join("\n")
}

export const json = <R>({ study }: Plan<R>, forecast: Forecast<R>): string => {
  const cells = forecast.entries.map(({ cell, cost, explanation, status }) => ({
    cell: cell.id,
    stage: cell.stage,
    use: cell.use,
    coordinates: cell.coordinates,
    inputs: inputsOf(cell).map(({ id }) => id),
    status,
    ...(status === "compute" && { reasons: explanation.reasons }),
    ...(cost !== undefined && {
      expected: { seconds: cost.seconds, peakMemory: cost.peakMemory, bytes: cost.bytes, runs: cost.runs },
    }),
  }))
  return JSON.stringify({ study: study.name, totals: totals(forecast), cells }, null, 2)
}

const fills = { cached: "#d9ead3", compute: "#fff2cc", unneeded: "#eeeeee" } as const

const quote = (text: string) => JSON.stringify(text)

export const dot = <R>({ study }: Plan<R>, { entries }: Forecast<R>): string => {
  return [
    `digraph ${quote(study.name)} {`,
    "  rankdir=LR; node [shape=box, style=filled];",
    ...entries.map(({ cell, status }) => `  ${quote(cell.id)} [fillcolor="${fills[status]}", tooltip="${status}"];`),
    ...entries.flatMap(({ cell }) => inputsOf(cell).map((input) => `  ${quote(input.id)} -> ${quote(cell.id)};`)),
    "}",
  ].join("\n")
}
