/** The pivot of a table as short texts and verdicts: what the forms for people (text, Markdown) have in common. */
import { printable } from "./DisplayWidth.ts"
import { absent, pivot, type Row, type Show, type Value } from "./Table.ts"

/**
 * What a value says of its setting. `unclear`: further from the baseline than is tolerated, but within the noise.
 * Rows without retention (nothing to divide by) are judged by their difference alone.
 */
export type Verdict = "baseline" | "uncompared" | "same" | "better" | "worse" | "severe" | "unclear"
export interface Cell {
  readonly number: string
  readonly verdict: Verdict
  /** Beside the number, so that the table reads without colour. */
  readonly mark: string
}
export interface Grid {
  readonly names: ReadonlyArray<string>
  readonly facts: ReadonlyArray<string>
  /** Per column, the lines of its heading. */
  readonly columns: ReadonlyArray<ReadonlyArray<string>>
  readonly lines: ReadonlyArray<{
    readonly names: ReadonlyArray<string>
    readonly facts: ReadonlyArray<string>
    readonly isBaseline: boolean
    readonly cells: ReadonlyArray<Cell>
  }>
}

/** The baseline's stands at its name, where a whole line or column is the baseline. */
const marks: { readonly [V in Verdict]: string } = {
  baseline: "*",
  uncompared: "",
  same: "",
  better: "+",
  worse: "!",
  severe: "!!",
  unclear: "?",
}

const percent = (share: number) => Math.round(share * 100)

/** By whole percent of the baseline kept, as shown: 98 to 102 is the same, below 90 is severe. */
export const verdict = (row: Row): Verdict => {
  if (row.isBaseline) return "baseline"
  if (row.delta === undefined || row.better === "neither") return "uncompared"
  const kept = row.retention === undefined ? undefined : percent(row.retention)
  if (kept === undefined ? row.delta === 0 : kept >= 98 && kept <= 102) return "same"
  if (row.significant === false) return "unclear"
  if (kept === undefined) return row.delta > 0 === (row.better === "higher") ? "better" : "worse"
  return kept > 102 ? "better" : kept >= 90 ? "worse" : "severe"
}

/** Decimals that give the smallest of `values` (0 aside) `digits` significant digits, at most `most`. */
const decimalsFor = (values: ReadonlyArray<number>, digits: number, most: number): number => {
  const smallest = Math.min(...values.map(Math.abs).filter((value) => value >= 10 ** -most))
  const decimals = Number.isFinite(smallest) ? digits - 1 - Math.floor(Math.log10(smallest)) : most
  return Math.min(most, Math.max(0, decimals))
}
/** Numbers too long or too small for their column are written as 2.39e4, to keep columns narrow. */
const fixed = (value: number, decimals: number): string => {
  const text = value.toFixed(decimals)
  const vanishes = value !== 0 && Number(text) === 0
  return vanishes || Math.abs(value) >= 10 ** (6 - decimals) ? value.toExponential(2).replace("e+", "e") : text
}
const signed = (value: number, decimals: number): string => (value > 0 ? "+" : "") + fixed(value, decimals)

const unit = (row: Row) => JSON.stringify(row.labels)
/** Four significant digits in general, three decimals at most; the same for all values under the same labels. */
const decimalsByLabels = (rows: ReadonlyArray<Row>): ((row: Row) => number) => {
  const decimals = new Map(
    Array.from(Map.groupBy(rows, unit), ([labels, same]) => [
      labels,
      decimalsFor(
        same.map((row) => row.value),
        4,
        3,
      ),
    ]),
  )
  return (row) => decimals.get(unit(row))!
}

/** A cell without what is asked for (and every baseline) shows its value instead. */
const numberOf = (row: Row, show: Show, decimals: number): string => {
  if (!row.isBaseline && show === "retention" && row.retention !== undefined) return `${percent(row.retention)}%`
  if (!row.isBaseline && show === "delta" && row.delta !== undefined) return signed(row.delta, decimals)
  return fixed(row.value, decimals)
}

/** The texts of one table of the layout. */
export const grid = (table: Value, show: Show): Grid => {
  const { columns, facts, lines, rows } = pivot(table)
  const heading = (name: string) => printable(table.layout.headings[name] ?? name)
  const decimalsOf = decimalsByLabels(lines.flatMap((line) => line.cells.filter((cell) => cell !== undefined)))
  const factDecimals = facts.map((_, i) =>
    decimalsFor(
      lines.map((line) => line.facts[i] ?? 0),
      3,
      2,
    ),
  )
  const comparing = lines.some((line) => !line.isBaseline)
  return {
    names: rows.map(heading),
    facts: facts.map(heading),
    columns: columns.map(({ isBaseline, names }) =>
      names.map((name, i) => (isBaseline && comparing && i === 0 ? `* ${heading(name)}` : heading(name))),
    ),
    lines: lines.map((line) => ({
      names: line.names.map(printable),
      facts: line.facts.map((fact, i) => (fact === undefined ? absent : fixed(fact, factDecimals[i]!))),
      isBaseline: line.isBaseline,
      cells: line.cells.map((row, i): Cell => {
        if (row === undefined) return { number: absent, verdict: "uncompared", mark: "" }
        const marked = row.isBaseline && (line.isBaseline || columns[i]!.isBaseline)
        const judged = verdict(row)
        return { number: numberOf(row, show, decimalsOf(row)), verdict: judged, mark: marked ? "" : marks[judged] }
      }),
    })),
  }
}

const shows: { readonly [S in Show]: string } = {
  values: "Values.",
  delta: "Difference from the baseline.",
  retention: "Share of the baseline kept: 100% is no loss, 0% is guessing (lower-is-better metrics: baseline / value).",
}
/** What the numbers of one table are. */
export const caption = (show: Show): string => shows[show]

/** The sentences that explain the marks which occur. */
export const legend = (grids: ReadonlyArray<Grid>): ReadonlyArray<string> => {
  const lines = grids.flatMap((grid) => grid.lines)
  const seen = new Set(lines.flatMap((line) => line.cells.map((cell) => cell.verdict)))
  return [
    ...(seen.has("baseline") ? ["* baseline, in its own units"] : []),
    ...(seen.has("better") ? ["+ keeps over 102%"] : []),
    ...(seen.has("worse") ? ["! keeps 90-97%"] : []),
    ...(seen.has("severe") ? ["!! keeps less than 90%"] : []),
    ...(seen.has("unclear") ? ["? beyond 98-102%, but within the noise (95 %)"] : []),
  ]
}
