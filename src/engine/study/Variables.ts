/**
 * `${name}` inside scalars. A scalar that is exactly `${name}` takes the variable's typed value, lists and mappings
 * included; inside longer text the variable must be a scalar. `$${` is a plain `${`.
 *
 * The same pass turns `$name` into an edge (`$$name` is the plain text `$name`), because both read the same sign.
 */
import {
  type Mapping,
  type Position,
  type Value,
  Ref,
  describe,
  isList,
  isMapping,
  measure,
  placeOf,
  setPlace,
} from "./Document.ts"
import type { Mistakes } from "./Mistakes.ts"
import { suggest } from "./Nearest.ts"

const WHOLE = /^\$\{([^{}]*)\}$/
const REFERENCE = /^\$([A-Za-z_]\S*)$/
const INSIDE = /\$\$\{|\$\{([^{}]*)\}|\$\{/g
const MAX_TEXT = 100_000

/** Fills variables into values. `at` is the place of the value, for messages. */
export type Fill = (value: Value, at: Position) => Value

/** Variables may use each other in any order, but not themselves. */
export const make = (variables: Mapping, mistakes: Mistakes): Fill => {
  const filled = new Map<string, Value>()
  const open: Array<string> = []
  const shared = new Map<object, Value>()

  /** Nothing where there is a mistake, which is noted. */
  const lookup = (name: string, at: Position): Value | undefined => {
    const known = filled.get(name)
    if (known !== undefined) return known
    if (!Object.hasOwn(variables, name)) {
      mistakes.add(at, `no variable '${name}' under vars; ${suggest(name, Object.keys(variables))}`)
      return undefined
    }
    if (open.includes(name)) {
      mistakes.add(at, `variables go in a circle: ${[...open.slice(open.indexOf(name)), name].join(" -> ")}`)
      return undefined
    }
    open.push(name)
    const value = fill(variables[name]!, placeOf(variables, name)?.value ?? at)
    open.pop()
    filled.set(name, value)
    return value
  }

  const text = (source: string, at: Position): Value => {
    const reference = REFERENCE.exec(source)
    if (reference !== null) return new Ref(reference[1]!)
    if (source.startsWith("$$") && !source.startsWith("$${")) return source.slice(1)
    if (!source.includes("${")) return source
    const whole = WHOLE.exec(source)
    if (whole !== null) return lookup(whole[1]!.trim(), at) ?? null
    const result = source.replace(INSIDE, (match: string, name: string | undefined) => {
      if (match === "$${") return "${"
      if (name === undefined) {
        mistakes.add(at, "'${' without '}'; write $${ for the plain characters")
        return ""
      }
      const value = lookup(name.trim(), at)
      if (value === undefined) return ""
      if (typeof value === "object") {
        mistakes.add(at, `'${name}' is ${describe(value)} and cannot stand inside text; use \${${name}} alone`)
        return ""
      }
      return `${value}`
    })
    if (result.length <= MAX_TEXT) return result
    mistakes.add(at, `variables expand to more than ${MAX_TEXT} characters here; repeat less`)
    return ""
  }

  const fill = (value: Value, at: Position): Value => {
    if (typeof value === "string") return text(value, at)
    if (!isList(value) && !isMapping(value)) return value
    const known = shared.get(value)
    if (known !== undefined) return known
    const entries = Object.keys(value).map((key) => {
      const entry = isList(value) ? Number(key) : key
      const place = placeOf(value, entry)
      return { entry, place, value: fill((value as any)[entry], place?.value ?? at) }
    })
    const copy = isList(value)
      ? entries.map((_) => _.value)
      : Object.fromEntries(entries.map((_) => [_.entry, _.value]))
    for (const { entry, place } of entries) if (place !== undefined) setPlace(copy, entry, place)
    const excess = measure(copy)
    if (excess !== undefined) mistakes.add(at, excess)
    shared.set(value, excess === undefined ? copy : null)
    return excess === undefined ? copy : null
  }
  return fill
}
