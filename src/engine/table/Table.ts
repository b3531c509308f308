/**
 * Tidy tables: one measured value a row, with where it stands in the sweep, what was measured, how sure it is, and how
 * it compares with its baseline; and beside the rows how they want to be shown. Here are the data and its plain forms
 * (pivot, CSV, JSON); the forms for people are in `TableText.ts`.
 */
import * as Schema from "effect/Schema"
import * as Artifact from "../Artifact.ts"

export const Row = Schema.Struct({
  /** The node the value comes from. */
  cell: Schema.String,
  /** Where that cell stands in the sweep: axis name to label. An axis that the cell does not have is absent. */
  coordinates: Schema.Record(Schema.String, Schema.String),
  /** What was measured: such as task, metric, group. Values under the same labels are in the same unit. */
  labels: Schema.Record(Schema.String, Schema.String),
  /** What else is known of the cell, such as its size or a short name for several coordinates. */
  attributes: Schema.Record(Schema.String, Schema.Union([Schema.String, Schema.Finite])),
  value: Schema.Finite,
  /** Items the value is computed over. */
  n: Schema.Int,
  stderr: Schema.optionalKey(Schema.Finite),
  /** 95 % interval, [low, high]. */
  interval: Schema.optionalKey(Schema.Tuple([Schema.Finite, Schema.Finite])),
  better: Schema.Literals(["lower", "higher", "neither"]),
  chance: Schema.optionalKey(Schema.Finite),
  /** The four fields of a `Comparison`; absent where there is nothing to compare with. */
  baseline: Schema.optionalKey(Schema.Finite),
  delta: Schema.optionalKey(Schema.Finite),
  retention: Schema.optionalKey(Schema.Finite),
  significant: Schema.optionalKey(Schema.Boolean),
  /** Is this row what others are compared with? */
  isBaseline: Schema.Boolean,
  /** Does it belong in the pivot, or only in the tidy rows? */
  shown: Schema.Boolean,
})
export type Row = typeof Row.Type

export const Show = Schema.Literals(["values", "delta", "retention"])
export type Show = typeof Show.Type

/** Names are those of labels, attributes or axes, looked up in this order, or `cell`. */
export const Layout = Schema.Struct({
  /** What names a line of the pivot. */
  rows: Schema.Array(Schema.String),
  /** What names a column: one line of its heading each. */
  columns: Schema.Array(Schema.String),
  /** Numeric attributes printed once a line; one that differs within a line is left out. */
  facts: Schema.Array(Schema.String),
  /** What a name is called in headings, where it is too long for them. */
  headings: Schema.Record(Schema.String, Schema.String),
  /** One table each. */
  show: Schema.Array(Show),
})
export type Layout = typeof Layout.Type

export const Value = Schema.Struct({
  title: Schema.String,
  /** In the order of the study. */
  axes: Schema.Array(Schema.String),
  rows: Schema.Array(Row),
  layout: Layout,
})
export type Value = typeof Value.Type

/** What is known of a table before its values are. */
export interface Outline {
  readonly title: string
  readonly axes: ReadonlyArray<string>
}
export const Table = Artifact.make<"table", Value, Outline>("table", Value)

/** Stands for a coordinate or label that a row does not have. */
export const absent = "-"
export const nameOf = (row: Row, name: string): string =>
  name === "cell" ? row.cell : String(row.labels[name] ?? row.attributes[name] ?? row.coordinates[name] ?? absent)

export interface Line {
  readonly names: ReadonlyArray<string>
  readonly facts: ReadonlyArray<number | undefined>
  readonly isBaseline: boolean
  /** By column; undefined where the study has no such combination. */
  readonly cells: ReadonlyArray<Row | undefined>
}
export interface Pivot {
  readonly rows: ReadonlyArray<string>
  readonly facts: ReadonlyArray<string>
  readonly columns: ReadonlyArray<{ readonly names: ReadonlyArray<string>; readonly isBaseline: boolean }>
  readonly lines: ReadonlyArray<Line>
}

const keyOf = (row: Row, names: ReadonlyArray<string>) => JSON.stringify(names.map((name) => nameOf(row, name)))
const factOf = (rows: ReadonlyArray<Row>, fact: string): number | undefined | "mixed" => {
  const values = new Set(rows.map((row) => row.attributes[fact]).filter((value) => typeof value === "number"))
  return values.size > 1 ? "mixed" : [...values][0]
}

/**
 * The shown rows as a grid, lines and columns in order of first appearance. A layout that puts two rows into one place
 * is a bug of whoever made the table.
 */
export const pivot = ({ layout, rows }: Value): Pivot => {
  const shown = rows.filter((row) => row.shown)
  const lines = Map.groupBy(shown, (row) => keyOf(row, layout.rows))
  const columns = Map.groupBy(shown, (row) => keyOf(row, layout.columns))
  const facts = layout.facts.filter((fact) => [...lines.values()].every((line) => factOf(line, fact) !== "mixed"))
  return {
    rows: layout.rows,
    facts,
    columns: Array.from(columns.values(), (column) => ({
      names: layout.columns.map((name) => nameOf(column[0]!, name)),
      isBaseline: column.every((row) => row.isBaseline),
    })),
    lines: Array.from(lines.values(), (line) => {
      const cells = Map.groupBy(line, (row) => keyOf(row, layout.columns))
      for (const [a, b] of cells.values())
        if (b !== undefined) throw new Error(`${a!.cell} and ${b.cell} fall into one place of the table`)
      return {
        names: layout.rows.map((name) => nameOf(line[0]!, name)),
        facts: facts.map((fact) => factOf(line, fact) as number | undefined),
        isBaseline: line.every((row) => row.isBaseline),
        cells: Array.from(columns.keys(), (key) => cells.get(key)?.[0]),
      }
    }),
  }
}

const quote = (field: string) => (/[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field)

const numbers = ["value", "n", "stderr"] as const
const judgement = ["better", "chance", "baseline", "delta", "retention", "significant"] as const
/** The columns of every tidy table; axes must have other names. */
export const columnNames: ReadonlyArray<string> = ["cell", ...numbers, "low", "high", ...judgement]

/** Every tidy row as CSV (RFC 4180: CRLF, quotes doubled), full precision; what a row lacks is an empty field. */
export const toCsv = ({ axes, rows }: Value): string => {
  const keys = (part: "labels" | "attributes") => [...new Set(rows.flatMap((row) => Object.keys(row[part])))]
  const names = [...new Set([...axes, ...keys("labels"), ...keys("attributes")])]
  const header = ["cell", ...names, ...numbers, "low", "high", ...judgement]
  const records = rows.map((row) => [
    row.cell,
    ...names.map((name) => row.labels[name] ?? row.attributes[name] ?? row.coordinates[name]),
    ...numbers.map((name) => row[name]),
    row.interval?.[0],
    row.interval?.[1],
    ...judgement.map((name) => row[name]),
  ])
  return [header, ...records]
    .map((record) => record.map((field) => quote(String(field ?? ""))).join(",") + "\r\n")
    .join("")
}

/** The whole table as indented JSON: what the schema `Value` reads back. */
export const toJson = (table: Value): string => `${JSON.stringify(table, null, 2)}\n`
