/** From blueprints to cells: each stage's sweep meets the cells that it refers to, and every cell gets its key. */
import * as Effect from "effect/Effect"
import type * as Blueprint from "../study/Blueprint.ts"
import type { Path } from "../study/Document.ts"
import * as Exclude from "./Exclude.ts"
import * as Join from "./Join.ts"
import * as Key from "./Key.ts"
import { MAX_POINTS } from "./Matrix.ts"
import type { Mistakes } from "../study/Mistakes.ts"
import type { Cell, Options } from "./Plan.ts"
import * as Resources from "../run/Resources.ts"
import type { Coordinates } from "../Stage.ts"
import type { Study } from "../study/Study.ts"

/** A cell with what only the expansion of later stages asks of it. */
export interface Made<R> extends Join.Lineage {
  readonly cell: Cell<R>
  readonly point: Blueprint.Point
}

/** Points of a sweep that refer to the same stages, with the rows of input cells that they all meet. */
interface Group<R> {
  readonly points: ReadonlyArray<{ readonly point: Blueprint.Point; readonly own: ReadonlyArray<Join.Origin> }>
  readonly rows: ReadonlyArray<Join.Row<Made<R>>>
}

/** The cells of each stage; `blueprints` come in topological order. Mistakes are collected. */
export const make = Effect.fnUntraced(function* <R>(
  blueprints: ReadonlyArray<Blueprint.Blueprint<R>>,
  study: Study,
  options: Options<R>,
  mistakes: Mistakes,
) {
  const made = new Map<string, ReadonlyArray<Made<R>>>()
  const gather = gatherer(made)
  const shown = axisNames(blueprints)
  const ids = new Set<string>()

  for (const blueprint of blueprints) {
    const { entry, registered, points, hints } = blueprint
    const { needs } = registered.stage
    const mistake = (path: Path, reason: string, part: "key" | "value" = "value") =>
      mistakes.add(study.at(entry.name, path, part), reason)
    const resources = yield* Resources.make(blueprint, study.seed, options, mistake)
    const slots = [...new Set([...Object.keys(entry.fields), ...Object.keys(needs)])].filter((slot) => slot in needs)
    const single = slots.filter((slot) => needs[slot]!.arity !== "many")
    const many = slots.filter((slot) => needs[slot]!.arity === "many")
    const groups = groupsOf(blueprint, single, made)

    const size = groups.reduce((sum, { rows, points }) => sum + rows.length * points.length, 0)
    if (size === 0) mistake([], `stage '${entry.name}' has no cells: what it refers to has no point in common`)
    if (size > MAX_POINTS) {
      mistake([], `stage '${entry.name}' has more than ${MAX_POINTS} cells; sweep over less`)
      return made
    }
    const exclude = Exclude.make(entry, originsOf(groups), shown, mistake)
    const indexOf = new Map(points.map((point, index) => [point, index]))
    const clean = !mistakes.any

    const cells: Array<Made<R>> = []
    for (const group of groups) {
      for (const row of group.rows) {
        for (const { point, own } of group.points) {
          const choices = own.length === 0 ? row.choices : [...row.choices, ...own]
          if (!point.included && exclude.drops(choices)) continue
          const found = yield* resources(point)
          if (found === undefined) continue

          const coordinates: Record<string, string> = {}
          for (const { stage, choice } of choices) coordinates[shown(stage, choice.axis)] = choice.label
          const inputs: Record<string, Cell<R> | undefined | ReadonlyArray<Cell<R>>> = {}
          const keys: Record<string, Key.Inputs[string]> = {}
          for (const slot of single) {
            inputs[slot] = row.inputs[slot]?.cell
            keys[slot] = row.inputs[slot]?.cell.staticKey ?? null
          }
          for (const slot of many) {
            const all = gather(point.edges[slot]!.map(({ to }) => to))
            inputs[slot] = all.cells
            keys[slot] = all.keys
          }
          const cell: Cell<R> = {
            id: idOf(entry.name, coordinates),
            stage: entry.name,
            use: entry.use,
            definition: registered.stage,
            coordinates,
            params: point.params,
            hints,
            inputs,
            sources: found.sources,
            identity: found.identity,
            staticKey: Key.make("static/1", found.identity, keys),
          }
          // A repeat is repeated by everything below it, and is one mistake.
          if (ids.has(cell.id) && clean) {
            const path = point.choices.at(-1)?.path ?? []
            const reason = `two cells are called ${cell.id}; remove one, or tell the values apart with 'name: …'`
            mistake(point.included ? path.slice(0, 2) : path, reason)
          }
          ids.add(cell.id)
          const origins = own.length === 0 ? row.origins : { ...row.origins, [entry.name]: indexOf.get(point)! }
          cells.push({ cell, point, origins, choices })
        }
      }
    }
    for (const i of exclude.unused()) mistake(["exclude", i], "excludes nothing: no cell has all of these values")
    if (cells.length === 0 && !mistakes.any) mistake(["exclude"], `every cell of '${entry.name}' is excluded`, "key")
    made.set(entry.name, cells)
  }
  return made
})

const groupsOf = <R>(
  { entry, points }: Blueprint.Blueprint<R>,
  single: ReadonlyArray<string>,
  made: ReadonlyMap<string, ReadonlyArray<Made<R>>>,
): ReadonlyArray<Group<R>> => {
  const alike = Map.groupBy(points, ({ edges }) => single.map((slot) => edges[slot]?.[0]?.to ?? "").join(" "))
  return [...alike.values()].map((points) => ({
    points: points.map((point) => ({ point, own: point.choices.map((choice) => ({ stage: entry.name, choice })) })),
    rows: single.reduce<ReadonlyArray<Join.Row<Made<R>>>>(
      (rows, slot) => {
        const edge = points[0]!.edges[slot]?.[0]
        return edge === undefined ? rows : Join.join(rows, slot, made.get(edge.to)!)
      },
      [Join.start],
    ),
  }))
}

const originsOf = function* <R>(groups: ReadonlyArray<Group<R>>): Iterable<Join.Origin> {
  for (const { rows, points } of groups) {
    for (const { choices } of rows) yield* choices
    for (const { own } of points) yield* own
  }
}

/** All cells of some stages, for needs of arity `many`; made once, because a whole sweep may gather the same. */
const gatherer = <R>(made: ReadonlyMap<string, ReadonlyArray<Made<R>>>) => {
  const known = new Map<string, { readonly cells: ReadonlyArray<Cell<R>>; readonly keys: Key.Inputs[string] }>()
  return (stages: ReadonlyArray<string>) => {
    const name = stages.join(" ")
    const before = known.get(name)
    if (before !== undefined) return before
    const cells = stages.flatMap((stage) => made.get(stage)!.map(({ cell }) => cell))
    const keys = cells.map((cell) => [cell.id, Object.entries(cell.coordinates), cell.staticKey] as const)
    known.set(name, { cells, keys })
    return { cells, keys }
  }
}

const idOf = (stage: string, coordinates: Coordinates): string => {
  const axes = Object.entries(coordinates)
  return axes.length === 0 ? stage : `${stage}[${axes.map(([axis, label]) => `${axis}=${label}`).join(", ")}]`
}

/** An axis is shown by its own name where no other stage has one of that name, otherwise as `stage.axis`. */
const axisNames = (blueprints: ReadonlyArray<Blueprint.Blueprint<any>>) => {
  const stages = new Map<string, Set<string>>()
  for (const { entry, points } of blueprints) {
    for (const { choices } of points) {
      for (const { axis } of choices) stages.set(axis, (stages.get(axis) ?? new Set()).add(entry.name))
    }
  }
  return (stage: string, axis: string): string => (stages.get(axis)!.size === 1 ? axis : `${stage}.${axis}`)
}
