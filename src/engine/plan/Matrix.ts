/**
 * A stage's own sweep: `matrix` is a cross product, `zip` runs lists in parallel, `include` adds single points, and
 * every value has a label. (`exclude` may also name axes of stages further up, so the plan applies it to whole cells.)
 */
import {
  type Mapping,
  type Path,
  type Value,
  Ref,
  describe,
  isList,
  isMapping,
  placeOf,
  setPlace,
} from "../study/Document.ts"
import type { Entry } from "../study/Entry.ts"
import { canonical } from "./Key.ts"

/** One value of one axis. Points share it, so that it can be compared by identity. */
export interface Choice {
  readonly axis: string
  readonly label: string
  readonly raw: Value
  /** Where it is written, relative to the stage. */
  readonly path: Path
}

export interface Point {
  readonly choices: ReadonlyArray<Choice>
  /** Added by `include`: `exclude` does not apply to it. */
  readonly included: boolean
}

export interface Context {
  /** Why an axis cannot be swept over, where it cannot. */
  readonly refuse: (axis: string) => string | undefined
  /** The stage's own short name of a value, where it has one. */
  readonly label: (axis: string, raw: Value) => string | undefined
  readonly mistake: (path: Path, reason: string, part?: "key" | "value") => void
}

/** More points than anyone can mean to run: the mistake is reported instead of exhausting the memory. */
export const MAX_POINTS = 250_000

/** A value as a label: scalars as they are, references by stage, mappings as `k=v` joined. */
export const written = (raw: Value): string =>
  raw instanceof Ref
    ? raw.stage
    : isList(raw)
      ? `[${raw.map(written).join()}]`
      : isMapping(raw)
        ? Object.entries(raw)
            .map(([key, value]) => `${key}=${isMapping(value) ? `{${written(value)}}` : written(value)}`)
            .join()
        : `${raw}`

/** A value without the `name:` that only labels it. */
const withoutName = (raw: Mapping): Mapping => {
  const { name: _, ...rest } = raw
  for (const key of Object.keys(rest)) setPlace(rest, key, placeOf(raw, key)!)
  return rest
}

/** The points of a stage in document order: the first axis varies slowest. A stage without a sweep has one point. */
export const expand = (entry: Entry, { refuse, label, mistake }: Context): ReadonlyArray<Point> => {
  /** The first choice of each value and of each label, by axis. */
  const axes = new Map<string, { readonly byValue: Map<string, Choice>; readonly byLabel: Map<string, Choice> }>()
  const choose = (axis: string, raw: Value, path: Path): Choice => {
    const name = isMapping(raw) ? raw["name"] : undefined
    if (name !== undefined && (typeof name === "object" || name === "")) {
      mistake([...path, "name"], `'name' labels this value and must be text, not ${describe(name)}`)
    }
    const value = isMapping(raw) && name !== undefined ? withoutName(raw) : raw
    const { byValue, byLabel } = axes.get(axis) ?? { byValue: new Map(), byLabel: new Map() }
    axes.set(axis, { byValue, byLabel })
    const text = canonical(value)
    const own = name === undefined ? undefined : written(name)
    const choice: Choice = {
      axis,
      raw: value,
      path,
      label: own ?? byValue.get(text)?.label ?? label(axis, value) ?? written(value),
    }
    const taken = byLabel.get(choice.label)
    if (taken === undefined) byLabel.set(choice.label, choice)
    else if (byValue.get(text)?.label !== choice.label) {
      mistake(path, `two values of axis '${axis}' are labelled '${choice.label}'; tell them apart with 'name: …'`)
    }
    if (!byValue.has(text)) byValue.set(text, choice)
    return choice
  }

  const refused = new Set<string>()
  const check = (axis: string, path: Path): void => {
    const reason = refused.has(axis) ? undefined : refuse(axis)
    if (reason === undefined) return
    refused.add(axis)
    mistake(path, reason, "key")
  }

  let points: Array<ReadonlyArray<Choice>> = [[]]
  const cross = (rows: ReadonlyArray<ReadonlyArray<Choice>>, path: Path): void => {
    if (points.length * rows.length > MAX_POINTS) {
      mistake(path, `the sweep has more than ${MAX_POINTS} points; sweep over less`)
    } else {
      points = points.flatMap((point) => rows.map((row) => [...point, ...row]))
    }
  }

  for (const [axis, list] of Object.entries(entry.matrix)) {
    check(axis, ["matrix", axis])
    const choices = list.map((raw, i) => choose(axis, raw, ["matrix", axis, i]))
    const seen = new Set<string>()
    for (const { raw, label, path } of choices) {
      const text = canonical(raw)
      if (seen.has(text)) mistake(path, `axis '${axis}' lists '${label}' twice; remove one`)
      seen.add(text)
    }
    cross(
      choices.map((choice) => [choice]),
      ["matrix", axis],
    )
  }

  const zipped = Object.entries(entry.zip)
  const [first] = zipped
  if (first !== undefined) {
    const columns = zipped.map(([axis, list]) => {
      check(axis, ["zip", axis])
      if (axis in entry.matrix) mistake(["zip", axis], `axis '${axis}' is in matrix already; keep one`, "key")
      if (list.length !== first[1].length) {
        const lengths = `'${axis}' has ${list.length} values and '${first[0]}' has ${first[1].length}`
        mistake(["zip", axis], `zipped axes must be equally long: ${lengths}`, "key")
      }
      return list.map((raw, i) => choose(axis, raw, ["zip", axis, i]))
    })
    cross(
      first[1].map((_, i) => columns.flatMap((column) => column[i] ?? [])),
      ["zip", first[0]],
    )
  }

  // With `include` alone there is nothing to add to: its entries are the sweep.
  const swept = axes.size > 0 || entry.include.length === 0
  const all: Array<Point> = swept ? points.map((choices) => ({ choices, included: false })) : []
  const order = [...axes.keys()]
  entry.include.forEach((row, i) => {
    const choices = Object.entries(row).map(([axis, raw]) => {
      check(axis, ["include", i, axis])
      if (!order.includes(axis)) order.push(axis)
      return choose(axis, raw, ["include", i, axis])
    })
    choices.sort((a, b) => order.indexOf(a.axis) - order.indexOf(b.axis))
    all.push({ choices, included: true })
  })

  for (const axis of order) {
    if (axis in entry.fields && all.every((point) => point.choices.some((choice) => choice.axis === axis))) {
      mistake(
        [axis],
        `'${axis}' is an axis of the sweep, so no cell would use this value; remove one of the two`,
        "key",
      )
    }
  }
  return all
}
