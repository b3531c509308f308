/**
 * Which cells of several referenced stages belong together. Two cells that descend from the same sweep belong together
 * only if they descend from the same point of it (a diamond); cells of unrelated sweeps are crossed.
 */
import { type Choice, MAX_POINTS } from "./Matrix.ts"

/** Where a cell comes from: the point of each sweep above it, by the name of the stage that sweeps. */
export interface Lineage {
  readonly origins: { readonly [stage: string]: number }
  /** What was chosen on the way, in axis order. */
  readonly choices: ReadonlyArray<Origin>
}
export interface Origin {
  readonly stage: string
  readonly choice: Choice
}

export interface Row<C> extends Lineage {
  readonly inputs: { readonly [slot: string]: C }
}

export const start = { origins: {}, choices: [], inputs: {} }

/** Rows extended by each cell that agrees with them, rows first. Ends early once there are more than can be meant. */
export const join = <C extends Lineage>(
  rows: ReadonlyArray<Row<C>>,
  slot: string,
  cells: ReadonlyArray<C>,
): ReadonlyArray<Row<C>> => {
  const among = stagesOf(cells)
  const shared = [...stagesOf(rows)].filter((stage) => among.has(stage))
  const has = ({ origins }: Lineage) => shared.every((stage) => stage in origins)
  // A cell that does not descend from a shared sweep agrees with every point of it.
  const agrees = (a: Lineage, b: Lineage) =>
    shared.every((s) => !(s in a.origins) || !(s in b.origins) || a.origins[s] === b.origins[s])
  const pointOf = ({ origins }: Lineage) => shared.map((stage) => origins[stage]).join()
  const complete = shared.length > 0 && rows.every(has) && cells.every(has)
  const byPoint = complete ? Map.groupBy(cells, pointOf) : undefined
  const joined: Array<Row<C>> = []
  for (const row of rows) {
    const candidates = byPoint === undefined ? cells : (byPoint.get(pointOf(row)) ?? [])
    for (const cell of candidates) {
      if (byPoint === undefined && !agrees(row, cell)) continue
      joined.push({
        origins: { ...row.origins, ...cell.origins },
        choices: [...row.choices, ...cell.choices.filter(({ stage }) => !(stage in row.origins))],
        inputs: { ...row.inputs, [slot]: cell },
      })
      if (joined.length > MAX_POINTS) return joined
    }
  }
  return joined
}

const stagesOf = (lineages: ReadonlyArray<Lineage>): Set<string> => {
  const stages = new Set<string>()
  for (const { origins } of lineages) for (const stage in origins) stages.add(stage)
  return stages
}
