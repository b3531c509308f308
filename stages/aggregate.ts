/**
 * Gathers scores into one table: every metric of every cell as a tidy row, compared with its baseline.
 *
 * ```yaml
 * score: { use: evaluate, model: $quant, matrix: { task: [prose, cloze, sums] } }
 * table:
 *   use: aggregate
 *   scores: $score                            # or [$score, $other]
 *   baseline: { weights: none, kv: none }     # everything else is compared with the cell that has these labels
 *   show: [retention, delta]                  # default: retention with a baseline, values without
 *   metrics: [perplexity, acc_norm]           # default: what each task is usually quoted by
 *   rows: [weights, kv]                       # default: what varies but the task, `baseline` axes as one
 * ```
 *
 * A cell is compared with the one that differs from it in the axes of `baseline` alone: with an axis of models beside
 * them, each model has its own baseline. `-` is the label of a cell that lacks the axis, so a separate unquantized
 * `evaluate` stage serves as baseline as `{ weights: "-" }`.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { axesOf, labelOf, labelsOf, pair, type Place, quoted, settingsOf } from "../src/engine/table/Baseline.ts"
import { compare } from "../src/engine/table/Comparison.ts"
import { Problem, StageFailure } from "../src/engine/Problem.ts"
import * as Stage from "../src/engine/Stage.ts"
import { columnNames, type Row, Show, Table } from "../src/engine/table/Table.ts"
import { type Metric, Scores } from "./Scores.ts"

const Label = Schema.Union([Schema.String, Schema.Finite, Schema.Boolean])
const Names = Schema.Union([Schema.String, Schema.Array(Schema.String)])
const params = {
  title: Schema.optionalKey(Schema.String),
  baseline: Schema.optionalKey(
    Schema.Record(Schema.String, Label).annotate({ description: "Axis name to the label of the baseline on it" }),
  ),
  rows: Schema.optionalKey(
    Names.annotate({ description: "Axes down the side; `setting` is all axes of `baseline` as one short name" }),
  ),
  columns: Schema.optionalKey(
    Names.annotate({ description: "Axes across (default: task); the metric stands with the task, wherever that is" }),
  ),
  metrics: Schema.optionalKey(
    Schema.Array(Schema.String).annotate({ description: "Metrics to show (default: each task's primary ones)" }),
  ),
  show: Schema.optionalKey(
    Schema.Union([Show, Schema.Array(Show)]).annotate({
      description: "One table each (default: retention if there is a baseline, else values)",
    }),
  ),
  groups: Schema.optionalKey(
    Schema.Boolean.annotate({ description: "Also show each task's groups; the tidy rows always hold them" }),
  ),
}
type Params = Schema.Struct<typeof params>["Type"]

const listOf = <A extends string>(value: A | ReadonlyArray<A>): ReadonlyArray<A> =>
  typeof value === "string" ? [value] : value
const isTask = ([axis]: readonly [string, string]) => axis === "task" || axis.endsWith(".task")
/**
 * The task is an axis like any other, also for scores that were asked for one task only. Where several stages have an
 * axis of that name, the plan calls it `stage.task`; here they are one.
 */
const placed = <A extends { readonly task: string }>({ cell, coordinates, value }: Stage.Gathered<A>) => {
  const axes = Object.entries(coordinates)
  const task = axes.find(isTask)?.[1] ?? value.task
  return { cell, coordinates: { ...Object.fromEntries(axes.filter((axis) => !isTask(axis))), task }, value }
}

const reserved = new Set([...columnNames, "metric", "group", "setting", "effective_bits"])

/** Eighty columns are few: what the table's headings call things. */
const headings = {
  effective_bits: "bits",
  perplexity: "ppl",
  word_perplexity: "word ppl",
  byte_perplexity: "byte ppl",
  exact_match: "exact",
}

/** Tasks of one family (`tiny-prose`, `tiny-sums`) are told apart by what follows their common prefix. */
const taskHeadings = (tasks: ReadonlyArray<string>): { readonly [task: string]: string } => {
  const prefix = /^[^-_]+[-_]/.exec(tasks[0] ?? "")?.[0]
  const common = prefix !== undefined && tasks.length > 1 && tasks.every((task) => task.startsWith(prefix))
  return common ? Object.fromEntries(tasks.map((task) => [task, task.slice(prefix.length)])) : {}
}

const problem = (path: ReadonlyArray<string | number>, reason: string) => new Problem({ path: [...path], reason })

interface Sides {
  readonly rows: ReadonlyArray<string>
  readonly columns: ReadonlyArray<string>
}
/** What stands where: the parameters, or else the tasks across and all else that varies down the side. */
const sidesOf = Effect.fnUntraced(function* (
  params: Params,
  cells: ReadonlyArray<Place>,
  compared: ReadonlyArray<string>,
): Effect.fn.Return<Sides, Problem> {
  // The axes of the baseline as one name: how a setting is called.
  const merged = compared.length > 1 ? new Map([["setting", compared]]) : new Map<string, ReadonlyArray<string>>()
  const columns = listOf(params.columns ?? (listOf(params.rows ?? []).includes("task") ? [] : "task"))
  const axesIn = (names: ReadonlyArray<string>) => new Set(names.flatMap((name) => merged.get(name) ?? [name]))
  const across = axesIn(columns)
  const left = axesOf(cells).filter((axis) => labelsOf(cells, axis).length > 1 && !across.has(axis))
  const whole = merged.size > 0 && !compared.some((axis) => across.has(axis))
  const rows = listOf(params.rows ?? (whole ? [...left.filter((axis) => !compared.includes(axis)), "setting"] : left))

  const sides = { rows, columns }
  const known = [...axesOf(cells), ...merged.keys()]
  const all = [...rows, ...columns]
  for (const side of ["rows", "columns"] as const)
    for (const [index, name] of sides[side].entries()) {
      const path = Array.isArray(params[side]) ? [side, index] : [side]
      if (!known.includes(name)) return yield* problem(path, `there is no axis \`${name}\`; there are ${quoted(known)}`)
      if (all.indexOf(name) !== all.lastIndexOf(name))
        return yield* problem(path, `\`${name}\` is named twice in \`rows\` and \`columns\``)
    }
  const down = axesIn(rows)
  const lost = left.find((axis) => !down.has(axis))
  if (lost === undefined) return sides
  const labels = quoted(labelsOf(cells, lost))
  return yield* problem(["rows"], `the axis \`${lost}\` (${labels}) is in neither \`rows\` nor \`columns\``)
})

/** Everything about the table that follows from the cells' coordinates, and everything wrong with the parameters. */
const plan = Effect.fnUntraced(function* <C extends Place>(params: Params, cells: ReadonlyArray<C>) {
  const axes = axesOf(cells)
  const clash = axes.find((axis) => reserved.has(axis))
  if (clash !== undefined)
    return yield* problem(["scores"], `the axis \`${clash}\` has the name of a column of the table; rename it`)

  const labels = Object.fromEntries(Object.entries(params.baseline ?? {}).map(([axis, label]) => [axis, String(label)]))
  const compared = Object.keys(labels)
  if (compared.includes("task")) return yield* problem(["baseline", "task"], "tasks are not compared with one another")
  const baselineOf = yield* pair(cells, labels)

  const show = listOf(params.show ?? (compared.length > 0 ? "retention" : "values"))
  if (show.length === 0) return yield* problem(["show"], "name at least one of values, delta, retention")
  if (compared.length === 0 && show.some((one) => one !== "values"))
    return yield* problem(["show"], "`delta` and `retention` need a `baseline`")

  const { columns, rows } = yield* sidesOf(params, cells, compared)
  const measure = params.groups === true ? ["metric", "group"] : ["metric"]
  const measured = (names: ReadonlyArray<string>) =>
    names.flatMap((name) => (name === "task" ? [name].concat(measure) : [name]))
  return {
    title: params.title ?? (compared.length > 0 ? "What each setting keeps of its baseline" : "Scores"),
    axes,
    baselineOf,
    settingOf: compared.length > 1 ? settingsOf(cells, labels) : undefined,
    layout: {
      rows: rows.length > 0 ? measured(rows) : ["cell"],
      columns: [...rows, ...columns].includes("task") ? measured(columns) : [...columns, ...measure],
      facts: ["effective_bits"],
      headings: { ...headings, ...taskHeadings(labelsOf(cells, "task")) },
      show,
    },
  }
})

const metricKey = ({ group, name }: Metric) => JSON.stringify([name, group ?? null])

export default Stage.make({
  description: "Gather scores into a table and compare each setting with its baseline",
  version: 1,
  needs: { scores: Stage.many(Scores) },
  params,
  hints: {},
  gives: Table,
  outline: (params, { scores }) => Effect.map(plan(params, scores.map(placed)), ({ axes, title }) => ({ title, axes })),
  run: Effect.fn("aggregate")(function* (params, inputs, context) {
    const scores = inputs.scores.map(placed)
    const table = yield* Effect.mapError(plan(params, scores), ({ reason }) => new StageFailure({ reason }))
    const metrics = new Map<string, ReadonlyMap<string, Metric>>()
    for (const { cell, value } of scores) {
      const own = Map.groupBy(value.metrics, metricKey)
      const twice = [...own.values()].find((same) => same.length > 1)?.[0]
      if (twice !== undefined) {
        const group = twice.group === undefined ? "" : ` of the group \`${twice.group}\``
        return yield* new StageFailure({ reason: `${cell} gives the metric \`${twice.name}\`${group} twice` })
      }
      metrics.set(cell, new Map(value.metrics.map((metric) => [metricKey(metric), metric])))
    }
    const known = [...new Set(scores.flatMap(({ value }) => value.metrics.map((metric) => metric.name)))]
    const unknown = params.metrics?.find((name) => !known.includes(name))
    if (unknown !== undefined)
      return yield* new StageFailure({ reason: `no task gives the metric \`${unknown}\`; there are ${quoted(known)}` })

    const samples = new Map<string, Float64Array>()
    for (const { cell, value } of params.baseline === undefined ? [] : scores) {
      const { buffer } = yield* context.read(value.samples)
      samples.set(cell, new Float64Array(buffer, 0, value.samples.bytes / 8))
    }
    const samplesOf = (cell: string, [first, count]: readonly [number, number]) =>
      samples.get(cell)!.subarray(first, first + count)

    const rows: Array<Row> = []
    for (const scored of scores) {
      const base = table.baselineOf(scored)
      const setting = table.settingOf === undefined ? {} : { setting: table.settingOf(scored) }
      for (const metric of scored.value.metrics) {
        const { group, name, primary, samples: own, ...measured } = metric
        const against = base && metrics.get(base.cell)!.get(metricKey(metric))
        const same = base?.value.items === scored.value.items && own?.[1] === against?.samples?.[1]
        const pairs =
          same && own && against?.samples
            ? { own: samplesOf(scored.cell, own), baseline: samplesOf(base!.cell, against.samples) }
            : undefined
        rows.push({
          cell: scored.cell,
          coordinates: scored.coordinates,
          labels: { task: labelOf(scored, "task"), metric: name, ...(group === undefined ? {} : { group }) },
          attributes: { ...setting, effective_bits: scored.value.effectiveBits },
          ...measured,
          ...(against === undefined ? {} : compare(metric, against, pairs)),
          isBaseline: base?.cell === scored.cell,
          shown: (params.metrics?.includes(name) ?? primary) && (group === undefined || params.groups === true),
        })
      }
    }
    return { title: table.title, axes: table.axes, rows, layout: table.layout }
  }),
})
