/** What a cell should cost, by what cells of its stage cost before. */
import type { Cost } from "../store/Costs.ts"
import type { Cell } from "../plan/Plan.ts"

/** The same stage of the same study is the best guess; any other of its kind is better than none. */
const classesOf = (study: string, stage: string) => [`${study}/${stage}`, ""]

/** What is recorded after a cell was computed. */
export const records = <R>(
  study: string,
  { stage, use }: Cell<R>,
  { bytes, peakMemory, seconds }: Pick<Cost, "seconds" | "peakMemory" | "bytes">,
) => classesOf(study, stage).map((name) => ({ stage: use, class: name, seconds, peakMemory, bytes }))

export type Estimate<R> = (cell: Cell<R>) => Cost | undefined

export const make = <R>(study: string, costs: ReadonlyArray<Cost>): Estimate<R> => {
  const known = new Map(costs.map((cost) => [JSON.stringify([cost.stage, cost.class]), cost]))
  return (cell) =>
    classesOf(study, cell.stage)
      .map((name) => known.get(JSON.stringify([cell.use, name])))
      .find((cost) => cost !== undefined)
}
