/** One stage of a study as written: its shape is checked here, its parameters when the stage itself is known. */
import { type Mapping, type Path, type Position, type Value, describe, isList, isMapping, placeAt } from "./Document.ts"
import type { Mistakes } from "./Mistakes.ts"

/** One entry under `stages`, as written: parameters, hints and `$references` are still one mapping. */
export interface Entry {
  readonly name: string
  readonly use: string
  readonly fields: Mapping
  readonly matrix: { readonly [axis: string]: ReadonlyArray<Value> }
  readonly zip: { readonly [axis: string]: ReadonlyArray<Value> }
  readonly include: ReadonlyArray<Mapping>
  readonly exclude: ReadonlyArray<Mapping>
}

/** Reads the mapping of a stage; `at` is the place of its name. */
export const read = (name: string, root: Mapping, at: Position, mistakes: Mistakes): Entry | undefined => {
  const { use, matrix, zip, include, exclude, ...fields } = root
  const wrong = (path: Path, reason: string) => mistakes.add(placeAt(root, path)?.value ?? at, reason)
  const axes = (key: "matrix" | "zip", value: Value | undefined): { [axis: string]: ReadonlyArray<Value> } => {
    if (value === undefined) return {}
    if (!isMapping(value)) wrong([key], `'${key}' must be a mapping of axes to lists, not ${describe(value)}`)
    else if (Object.keys(value).length === 0) wrong([key], `'${key}' is empty; name an axis, or remove it`)
    else {
      for (const [axis, values] of Object.entries(value)) {
        if (!isList(values)) wrong([key, axis], `axis '${axis}' must be a list of values, not ${describe(values)}`)
        else if (values.length === 0) wrong([key, axis], `axis '${axis}' is empty; give it a value, or remove it`)
      }
      return value as { [axis: string]: ReadonlyArray<Value> }
    }
    return {}
  }
  const rows = (key: "include" | "exclude", value: Value | undefined): ReadonlyArray<Mapping> => {
    if (value === undefined) return []
    if (!isList(value)) {
      wrong([key], `'${key}' must be a list of mappings, not ${describe(value)}`)
      return []
    }
    value.forEach((row, i) => {
      if (!isMapping(row) || Object.keys(row).length === 0) {
        wrong(
          [key, i],
          `an entry of '${key}' must map axes to values, not ${isMapping(row) ? "be empty" : describe(row)}`,
        )
      }
    })
    return value as ReadonlyArray<Mapping>
  }
  const entry = {
    name,
    fields,
    matrix: axes("matrix", matrix),
    zip: axes("zip", zip),
    include: rows("include", include),
    exclude: rows("exclude", exclude),
  }
  if (typeof use === "string" && use !== "") return { ...entry, use }
  wrong(
    ["use"],
    use === undefined
      ? `stage '${name}' has no 'use'; add 'use: <stage>'`
      : `'use' must name a stage, not ${describe(use)}`,
  )
  return undefined
}
