/** All numbers of a sweep as a table. */
import * as Effect from "effect/Effect"
import * as Stage from "../../../../src/engine/Stage.ts"
import { Table } from "../../../../src/engine/table/Table.ts"
import { Numeral } from "./Numeral.ts"

export default Stage.make({
  description: "Numbers as a table",
  version: 1,
  needs: { numbers: Stage.many(Numeral) },
  params: {},
  hints: {},
  gives: Table,
  outline: (_, { numbers }) =>
    Effect.succeed({ title: "numbers", axes: [...new Set(numbers.flatMap((it) => Object.keys(it.coordinates)))] }),
  run: (_, { numbers }) => {
    const axes = [...new Set(numbers.flatMap((it) => Object.keys(it.coordinates)))]
    const rows = numbers.map(({ cell, coordinates, value }) => ({
      cell,
      coordinates,
      labels: { metric: "value" },
      attributes: {},
      value: value.value,
      n: 1,
      better: "neither" as const,
      shown: true,
      isBaseline: false,
    }))
    return Effect.succeed({
      title: "numbers",
      axes,
      rows,
      layout: { rows: axes, columns: ["metric"], facts: [], headings: {}, show: ["values" as const] },
    })
  },
})
