/** Results that are tables, read from the store and printed in the form that was asked for. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Output from "../engine/run/Output.ts"
import type { Cell } from "../engine/plan/Plan.ts"
import { Store } from "../engine/store/Store.ts"
import * as Table from "../engine/table/Table.ts"
import * as TableText from "../engine/table/TableText.ts"
import type { Trace } from "../engine/store/Trace.ts"
import * as Display from "./Display.ts"

export type Form = "text" | "csv" | "json" | "markdown"

export const isTable = <R>(cell: Cell<R>): boolean => cell.definition.gives.kind === Table.Table.kind

export const read = Effect.fnUntraced(function* ({ output }: Trace) {
  const store = yield* Store
  return yield* Output.decode(output, Table.Table.schema, store.getDocument(output))
})

export const isScores = <R>(cell: Cell<R>): boolean => cell.definition.gives.kind === "scores"

/** Scores that no table of the study gathers: as an `aggregate` stage without settings would show them. */
export const ofScores = Effect.fnUntraced(function* <R>(found: ReadonlyArray<readonly [Cell<R>, Trace]>) {
  const store = yield* Store
  const [{ default: aggregate }, { Scores }] = yield* Effect.promise(() =>
    Promise.all([import("../../stages/aggregate.ts"), import("../../stages/Scores.ts")]),
  )
  const scores = yield* Effect.forEach(found, ([cell, { output }]) =>
    Effect.map(Output.decode(output, Scores.schema, store.getDocument(output)), (value) => ({
      cell: cell.id,
      coordinates: cell.coordinates,
      value,
    })),
  )
  // Nothing is compared, so that nothing but the scores is read.
  const table = yield* aggregate.run({}, { scores }, {} as never)
  // Cells of stages apart may have equal coordinates.
  const places = table.rows.filter(({ shown }) => shown).map((row) => JSON.stringify([row.coordinates, row.labels]))
  const apart = new Set(places).size === places.length
  return apart ? table : { ...table, layout: { ...table.layout, rows: ["cell"] } }
})

const render = (table: Table.Value, form: Form): string => {
  switch (form) {
    case "csv":
      return Table.toCsv(table)
    case "json":
      return Table.toJson(table)
    case "markdown":
      return TableText.toMarkdown(table)
    case "text":
      return TableText.toText(table, { width: process.stdout.columns || 80, color: Display.color(process.stdout) })
  }
}

export const print = (table: Table.Value, form: Form) => Console.log(render(table, form).trimEnd())
