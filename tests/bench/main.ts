/** `npm run bench [-- name …]`: every figure beside its bar and beside what the machine itself allows. */
import { readdirSync } from "node:fs"
import { cpus, release, totalmem, type } from "node:os"
import { ratio, reached, type Row } from "./Row.ts"

const names = readdirSync(new URL(".", import.meta.url))
  .filter((file) => /^[a-z].*\.ts$/.test(file) && file !== "main.ts")
  .map((file) => file.slice(0, -".ts".length))
  .toSorted()

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
  `${row.better === "lower" ? "at most" : "at least"} ${figure(row.bar, row.unit)}`,
  reached(row) ? "ok" : "BELOW",
]

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => !names.includes(name))
if (unknown.length > 0) console.log(`no benchmark ${unknown.join(", ")}; there are ${names.join(", ")}`)
else {
  const processors = cpus()
  const memory = (totalmem() / 2 ** 30).toFixed(0)
  console.log(`${processors.length} x ${processors[0]?.model ?? "unknown"}, ${memory} GiB, ${type()} ${release()}`)
  console.log(`Node ${process.versions.node}\n\n${line(columns)}`)
  for (const name of asked.length > 0 ? asked : names) {
    const { bench }: { bench: () => Promise<ReadonlyArray<Row>> } = await import(`./${name}.ts`)
    for (const row of await bench()) console.log(line(cells(row)))
  }
}
