/** `--set stage.parameter.sub=value`: one value of a study, changed from outside; the value is YAML. */
import {
  type Mapping,
  type Position,
  type Value,
  describe,
  isList,
  isMapping,
  parse,
  placeOf,
  setPlace,
} from "./Document.ts"
import type { Mistakes } from "./Mistakes.ts"

export interface Override {
  readonly path: ReadonlyArray<string>
  readonly value: Value
  /** Of the argument itself and of its value; `column` counts in the argument. */
  readonly at: Position
  readonly valueAt: Position
}

/** Reads one argument; `which` counts from 1 and is the line that messages show. */
export const read = (argument: string, which: number, mistakes: Mistakes): Override | undefined => {
  const at = { file: "--set", line: which, column: 1 }
  const equals = argument.indexOf("=")
  const path = argument.slice(0, Math.max(0, equals)).split(".")
  if (equals < 0 || path.some((step) => step === "")) {
    mistakes.add(at, `'${argument}' is not of the form stage.parameter=value`)
    return undefined
  }
  const valueAt = { ...at, column: equals + 2 }
  const value = parse(argument.slice(equals + 1), valueAt, mistakes)
  return value === undefined ? undefined : { path, value, at, valueAt }
}

/** The container at `path[0...from]` with the value put in at the rest of the path; everything else is shared, with its places. */
export const apply = (
  root: Mapping,
  { path, value, at, valueAt }: Override,
  from: number,
  mistakes: Mistakes,
): Mapping => {
  const put = (container: Value | undefined, depth: number): Value => {
    if (depth === path.length) return value
    const step = path[depth]!
    const column = path.slice(0, depth).join(".").length + (depth === 0 ? 1 : 2)
    const here = { ...at, column }
    if (isList(container)) {
      const index = /^\d+$/.test(step) ? Number(step) : -1
      if (index < 0 || index >= container.length) {
        mistakes.add(here, `'${step}' is not an entry of this list; entries are 0 to ${container.length - 1}`)
        return container
      }
      const copy = container.map((child, i) => (i === index ? put(child, depth + 1) : child))
      container.forEach((_, i) => copyPlace(container, copy, i))
      setPlace(copy, index, { key: here, value: valueAt })
      return copy
    }
    if (container !== undefined && container !== null && !isMapping(container)) {
      mistakes.add(here, `'${path.slice(0, depth).join(".")}' is ${describe(container)}, which has no '${step}'`)
      return container
    }
    const copy: Record<string, Value> = { ...container, [step]: put(container?.[step], depth + 1) }
    for (const key of Object.keys(container ?? {})) copyPlace(container!, copy, key)
    setPlace(copy, step, { key: here, value: valueAt })
    return copy
  }
  return put(root, from) as Mapping
}

const copyPlace = (from: object, to: object, entry: string | number): void => {
  const place = placeOf(from, entry)
  if (place !== undefined) setPlace(to, entry, place)
}
