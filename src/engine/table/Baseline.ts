/** Which cell of a sweep each cell is compared with, and what a setting is called for short. */
import * as Effect from "effect/Effect"
import { Problem } from "../Problem.ts"
import type { Coordinates } from "../Stage.ts"
import { absent } from "./Table.ts"

export interface Place {
  readonly cell: string
  readonly coordinates: Coordinates
}
/** The label of a cell on an axis; `-` where it lacks the axis. */
export const labelOf = ({ coordinates }: Place, axis: string): string => coordinates[axis] ?? absent
/** All axes, in order of first appearance. */
export const axesOf = (cells: ReadonlyArray<Place>): ReadonlyArray<string> => [
  ...new Set(cells.flatMap(({ coordinates }) => Object.keys(coordinates))),
]
/** The labels of an axis, in order of first appearance. */
export const labelsOf = (cells: ReadonlyArray<Place>, axis: string): ReadonlyArray<string> => [
  ...new Set(cells.map((cell) => labelOf(cell, axis))),
]
export const quoted = (names: ReadonlyArray<string>): string => names.map((name) => `\`${name}\``).join(", ") || "none"

/** Each cell's baseline: undefined for all where `labels` names no axis. */
export type BaselineOf<C> = (cell: C) => C | undefined

/**
 * Pairs each cell with the one that has the labels of the baseline on its axes and the same coordinates otherwise.
 * Fails for two cells at one place, an axis or label that does not exist (naming those that do), and a cell whose
 * baseline is not in the study.
 */
export const pair = Effect.fnUntraced(function* <C extends Place>(
  cells: ReadonlyArray<C>,
  labels: Coordinates,
): Effect.fn.Return<BaselineOf<C>, Problem> {
  const axes = axesOf(cells)
  const place = (cell: C, fixed: Coordinates) =>
    axes.map((axis) => `${axis}=${fixed[axis] ?? labelOf(cell, axis)}`).join(", ")
  const byPlace = new Map<string, C>()
  for (const cell of cells) {
    const other = byPlace.get(place(cell, {}))
    const reason = `${other?.cell} and ${cell.cell} have the same coordinates (${place(cell, {})}); give them an axis that tells them apart`
    if (other !== undefined) return yield* new Problem({ path: ["scores"], reason })
    byPlace.set(place(cell, {}), cell)
  }
  for (const [axis, label] of Object.entries(labels)) {
    const existing = labelsOf(cells, axis)
    const reason = axes.includes(axis)
      ? `the axis \`${axis}\` has no label \`${label}\`; it has ${quoted(existing)}`
      : `there is no axis \`${axis}\`; there are ${quoted(axes)}`
    if (!axes.includes(axis) || !existing.includes(label))
      return yield* new Problem({ path: ["baseline", axis], reason })
  }
  if (Object.keys(labels).length === 0) return () => undefined
  const baselineOf = (cell: C) => byPlace.get(place(cell, labels))
  const alone = cells.find((cell) => baselineOf(cell) === undefined)
  if (alone === undefined) return baselineOf
  const reason = `${alone.cell} has no baseline: the study has no cell at ${place(alone, labels)}`
  return yield* new Problem({ path: ["baseline"], reason })
})

/**
 * A short name for where a cell stands on the axes of the baseline: the labels that differ from it (`hot salted`), or
 * the baseline's own. A label that occurs on several of these axes is shown with its axis (`heat=high`).
 */
export const settingsOf = <C extends Place>(cells: ReadonlyArray<C>, baseline: Coordinates): ((cell: C) => string) => {
  const axes = Object.keys(baseline)
  const own = [...new Set(Object.values(baseline))].join(" ")
  const labels = axes.flatMap((axis) => labelsOf(cells, axis).filter((label) => label !== baseline[axis]))
  const isClear = (label: string) => label !== own && labels.indexOf(label) === labels.lastIndexOf(label)
  return (cell) =>
    axes
      .filter((axis) => labelOf(cell, axis) !== baseline[axis])
      .map((axis) => (isClear(labelOf(cell, axis)) ? labelOf(cell, axis) : `${axis}=${labelOf(cell, axis)}`))
      .join(" ") || own
}
