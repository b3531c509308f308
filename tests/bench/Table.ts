/** Rows as they are printed: figures side by side, and what is noted of them underneath. */
import { cpus, release, totalmem, type } from "node:os"
import { ratio, reached, type Row } from "./Row.ts"

const columns = ["what", "measured", "machine's limit", "ratio", "bar", ""]
const widths = [33, 20, 20, 6, 20, 5]
const line = (cells: ReadonlyArray<string>) =>
  cells
    .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
    .join("  ")
    .trimEnd()

/** Three significant digits, large numbers whole. */
const figure = (value: number, unit: string) =>
  `${value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ${unit}`.trim()

const cells = (row: Row) => [
  row.what,
  figure(row.value, row.unit),
  figure(row.limit, row.unit),
  ratio(row).toFixed(2),
  row.bar === undefined ? "none" : `${row.better === "lower" ? "at most" : "at least"} ${figure(row.bar, row.unit)}`,
  row.bar === undefined ? "" : reached(row) ? "ok" : row.better === "lower" ? "ABOVE" : "BELOW",
]

/** The machine, and the head of the table. */
export const begin = (): void => {
  const processors = cpus()
  const memory = (totalmem() / 2 ** 30).toFixed(0)
  console.log(`${processors.length} x ${processors[0]?.model ?? "unknown"}, ${memory} GiB, ${type()} ${release()}`)
  console.log(`Node ${process.versions.node}\n\n${line(columns)}`)
}

export const print = (row: Row): void => {
  console.log(line(cells(row)))
  if (row.note !== undefined) console.log(`  ${row.note}`)
}
