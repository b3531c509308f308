/** What a run would do, cell by cell, and what it should cost by the runs before. */
import type { Cost } from "../engine/store/Costs.ts"
import * as Estimate from "../engine/run/Estimate.ts"
import * as Explain from "../engine/run/Explain.ts"
import type { Cell, Plan } from "../engine/plan/Plan.ts"
import type { Service as Store } from "../engine/store/Store.ts"
import * as Survey from "../engine/run/Survey.ts"

/** `unneeded`: neither there nor to be computed, because all that needs it is there. */
export type Status = "cached" | "compute" | "unneeded"

export interface Entry<R> {
  readonly cell: Cell<R>
  readonly status: Status
  readonly explanation: Explain.Explanation
  /** What computing it should cost; unknown where nothing of its kind ever ran. */
  readonly cost: Cost | undefined
}

export interface Forecast<R> {
  readonly entries: ReadonlyArray<Entry<R>>
  readonly pending: ReadonlyArray<Cell<R>>
}

export const make = <R>(store: Store, plan: Plan<R>, targets: ReadonlyArray<Cell<R>>): Forecast<R> => {
  const survey = Survey.make<R>(store, plan, () => false)
  const pending = survey.pending(plan, targets)
  const open = new Set(pending)
  const wanted = Survey.closure(targets)
  const { why } = Explain.make(store, plan, survey)
  const estimate = Estimate.make<R>(plan.study.name, store.costs())
  const entries = plan.cells
    .filter((cell) => wanted.has(cell))
    .map((cell): Entry<R> => {
      const status = open.has(cell) ? "compute" : survey.traces.has(cell) ? "cached" : "unneeded"
      const explanation =
        status === "compute"
          ? why(cell)
          : { cell: cell.id, cached: survey.traces.get(cell), against: undefined, reasons: [] }
      return { cell, status, explanation, cost: status === "compute" ? estimate(cell) : undefined }
    })
  return { entries, pending }
}

export interface Totals {
  readonly cells: number
  readonly cached: number
  readonly compute: number
  /** Cells to compute whose cost nothing is known of. */
  readonly unknown: number
  readonly seconds: number
  /** Bytes: the largest of any one cell. */
  readonly peakMemory: number
  readonly bytes: number
}

export const totals = <R>({ entries }: Forecast<R>): Totals => {
  const compute = entries.filter(({ status }) => status === "compute")
  const sum = (part: "seconds" | "bytes") => compute.reduce((sum, { cost }) => sum + (cost?.[part] ?? 0), 0)
  return {
    cells: entries.length,
    cached: entries.filter(({ status }) => status === "cached").length,
    compute: compute.length,
    unknown: compute.filter(({ cost }) => cost === undefined).length,
    seconds: sum("seconds"),
    peakMemory: Math.max(0, ...compute.map(({ cost }) => cost?.peakMemory ?? 0)),
    bytes: sum("bytes"),
  }
}
