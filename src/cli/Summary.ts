/** What a run ends with: its tables, what failed, and what was reused. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { count, duration } from "../engine/run/Quantities.ts"
import type { Report } from "../engine/run/Run.ts"
import { StagesFailed } from "./CallError.ts"
import * as Tables from "./Tables.ts"

export interface Options {
  /** Wall time of the run. */
  readonly seconds: number
  readonly log: "text" | "json"
}

const totals = <R>({ outcomes, wanted, traces }: Report<R>) => {
  const kinds = Map.groupBy(outcomes.values(), ({ kind }) => kind)
  const reused = [...wanted].filter((cell) => traces.has(cell) && outcomes.get(cell)?.kind !== "computed")
  return {
    computed: kinds.get("computed")?.length ?? 0,
    failed: kinds.get("failed")?.length ?? 0,
    skipped: kinds.get("skipped")?.length ?? 0,
    reused: reused.length,
    /** Seconds that the reused cells took when they were computed. */
    saved: reused.reduce((sum, cell) => sum + traces.get(cell)!.provenance.seconds, 0),
  }
}

const sentence = ({ computed, failed, reused, saved, skipped }: ReturnType<typeof totals>, seconds: number) => {
  const parts = [`${computed} computed`]
  if (reused > 0) parts.push(`${reused} reused (saved ${duration(saved)})`)
  if (failed > 0) parts.push(`${failed} failed`)
  if (skipped > 0) parts.push(`${skipped} skipped`)
  return `${count(computed + reused + failed + skipped, "cell")}: ${parts.join(", ")}, in ${duration(seconds)}`
}

/** Fails when a stage did. */
export const print = Effect.fnUntraced(function* <R>(report: Report<R>, { log, seconds }: Options) {
  const sum = totals(report)
  if (log === "json")
    yield* Console.log(JSON.stringify({ time: new Date().toISOString(), event: "done", ...sum, seconds }))
  else {
    const found = [...report.targets].flatMap((cell) => {
      const trace = report.traces.get(cell)
      return trace === undefined ? [] : [[cell, trace] as const]
    })
    const tables = found.filter(([cell]) => Tables.isTable(cell))
    for (const [, trace] of tables) yield* Tables.print(yield* Tables.read(trace), "text")
    const scores = tables.length > 0 ? [] : found.filter(([cell]) => Tables.isScores(cell))
    if (scores.length > 0) yield* Tables.print(yield* Tables.ofScores(scores), "text")
    for (const [cell, outcome] of report.outcomes)
      if (outcome.kind === "failed") yield* Console.error(`${cell.id}: ${outcome.reason}`)
    yield* Console.log(sentence(sum, seconds))
  }
  if (sum.failed > 0) return yield* new StagesFailed({ count: sum.failed })
})
