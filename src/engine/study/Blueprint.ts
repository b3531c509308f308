/**
 * One stage of a study checked by itself: its fields are known, its references are well formed, its sweep is expanded and
 * every parameter is decoded. What it refers to is checked by the plan.
 */
import * as Result from "effect/Result"
import type { Json } from "effect/Schema"
import { type Path, type Value, Ref, describe, isList, isMapping } from "./Document.ts"
import type { Entry } from "./Entry.ts"
import * as Matrix from "../plan/Matrix.ts"
import type { Mistakes } from "./Mistakes.ts"
import { suggest } from "./Nearest.ts"
import * as Parameters from "./Parameters.ts"
import type * as Registry from "../plan/Registry.ts"
import type * as Stage from "../Stage.ts"
import type { Study } from "./Study.ts"

/** A reference as written: which stage, and where it stands relative to the stage that refers. */
export interface Edge {
  readonly to: string
  readonly path: Path
}

/** One point of the stage's own sweep, before it meets the cells that it refers to. */
export interface Point extends Matrix.Point {
  readonly edges: { readonly [slot: string]: ReadonlyArray<Edge> }
  readonly params: { readonly [name: string]: unknown }
  /** The parameters as they enter the key. */
  readonly json: { readonly [name: string]: Json }
}

export interface Blueprint<R> {
  readonly entry: Entry
  readonly registered: Registry.Entry<R>
  readonly points: ReadonlyArray<Point>
  readonly hints: { readonly [name: string]: unknown }
}

/** Where a field of a point is written: in the sweep if it comes from there. */
export const pathOf = (choices: ReadonlyArray<Matrix.Choice>, path: Path): Path => {
  const choice = choices.find(({ axis }) => axis === path[0])
  return choice === undefined ? path : [...choice.path, ...path.slice(1)]
}

/** Stages of one kind share the decoders, and with them what was decoded already. */
const decoders = new WeakMap<Stage.Any<any>, ReadonlyMap<string, Parameters.Field>>()
const fieldsOf = (stage: Stage.Any<any>): ReadonlyMap<string, Parameters.Field> => {
  const known = decoders.get(stage)
  if (known !== undefined) return known
  const fields = Object.entries({ ...stage.hints, ...stage.params })
  const fresh = new Map(fields.map(([name, schema]) => [name, Parameters.make(name, schema)]))
  decoders.set(stage, fresh)
  return fresh
}

/** Collects what is wrong with the stage; the blueprint is of use only where nothing is. */
export const make = <R>(
  entry: Entry,
  registered: Registry.Entry<R>,
  study: Study,
  mistakes: Mistakes,
): Blueprint<R> => {
  const { params, hints, needs, labels } = registered.stage
  const mistake = (path: Path, reason: string, part: "key" | "value" = "value") =>
    mistakes.add(study.at(entry.name, path, part), reason)
  const fields = fieldsOf(registered.stage)
  const known = [...Object.keys(needs), ...fields.keys()]
  const unknown = (name: string) => `'${entry.use}' has no parameter '${name}'; ${suggest(name, known)}`
  for (const name of Object.keys(entry.fields)) {
    if (!known.includes(name)) mistake([name], unknown(name), "key")
  }

  const decode = (name: string, raw: Value | undefined, path: Path): Parameters.Decoded | undefined => {
    const reference = raw === undefined ? undefined : findRef(raw, path)
    if (reference !== undefined) {
      mistake(reference.path, `'${name}' is a parameter and takes a value, not a reference ($${reference.to})`)
      return undefined
    }
    const result = fields.get(name)!.decode(raw)
    if (Result.isSuccess(result)) return result.success
    for (const it of result.failure) mistake([...path, ...it.path.slice(1)], it.reason, it.part)
    return undefined
  }

  const points = Matrix.expand(entry, {
    mistake,
    refuse: (axis) =>
      axis in hints
        ? `'${axis}' is a hint: it cannot change a result, so there is nothing to sweep over`
        : axis in params || axis in needs
          ? undefined
          : unknown(axis),
    label: (axis, raw) => {
      const label = axis in params ? labels?.[axis] : undefined
      const decoded = label === undefined || findRef(raw, []) ? undefined : fields.get(axis)!.decode(raw)
      return label !== undefined && decoded !== undefined && Result.isSuccess(decoded)
        ? label(decoded.success.value)
        : undefined
    },
  })

  /** The same for all points: what the axes leave alone. */
  const base = { params: {} as Record<string, unknown>, json: {} as Record<string, Json> }
  const put = (target: typeof base, name: string, decoded: Parameters.Decoded | undefined): void => {
    if (decoded?.present !== true) return
    target.params[name] = decoded.value
    if (decoded.json !== undefined) target.json[name] = decoded.json
  }
  const always = (name: string) => points.every(({ choices }) => choices.some(({ axis }) => axis === name))
  for (const name of Object.keys(params)) {
    if (points.length === 0 || !always(name)) put(base, name, decode(name, entry.fields[name], [name]))
  }
  const edges: Record<string, ReadonlyArray<Edge>> = {}
  for (const [slot, need] of Object.entries(needs)) {
    if (!always(slot)) edges[slot] = readEdges(slot, need, entry.fields[slot], [slot], study, mistake)
  }

  // Cells that share a value share its decoded form, and its references, so each choice is read once.
  const decoded = new Map<Matrix.Choice, Parameters.Decoded | undefined>()
  const referred = new Map<Matrix.Choice, ReadonlyArray<Edge>>()
  const complete = (point: Matrix.Point): Point => {
    if (point.choices.length === 0) return { ...point, edges, ...base }
    const own = { edges: { ...edges }, params: { ...base.params }, json: { ...base.json } }
    for (const choice of point.choices) {
      const { axis, raw, path } = choice
      const need = needs[axis]
      if (need !== undefined) {
        if (!referred.has(choice)) referred.set(choice, readEdges(axis, need, raw, path, study, mistake))
        own.edges[axis] = referred.get(choice)!
      } else if (axis in params) {
        if (!decoded.has(choice)) decoded.set(choice, decode(axis, raw, path))
        put(own, axis, decoded.get(choice))
      }
    }
    return { ...point, ...own }
  }

  const hinted: Record<string, unknown> = {}
  for (const name of Object.keys(hints)) {
    const value = decode(name, entry.fields[name], [name])
    if (value?.present === true) hinted[name] = value.value
  }
  return { entry, registered, points: points.map(complete), hints: hinted }
}

const readEdges = (
  slot: string,
  need: Stage.Need<any, Stage.Arity>,
  raw: Value | undefined,
  path: Path,
  study: Study,
  mistake: Matrix.Context["mistake"],
): ReadonlyArray<Edge> => {
  const { kind } = need.artifact
  const absent = raw === undefined || raw === null || raw === "none"
  if (absent && need.arity === "optional") return []
  if (raw === undefined) {
    mistake([], `'${slot}' is missing: a $reference to a stage that gives ${kind}`, "key")
    return []
  }
  if (isList(raw) && need.arity !== "many") {
    mistake(path, `'${slot}' takes one reference, not a list; to try several, put the list under matrix`)
    return []
  }
  if (isList(raw) && raw.length === 0) mistake(path, `'${slot}' is an empty list; it needs at least one $reference`)
  const list = isList(raw) ? raw : [raw]
  return list.flatMap((item, i) => {
    const at = isList(raw) ? [...path, i] : path
    if (!(item instanceof Ref)) {
      const meant = typeof item === "string" && study.stages.has(item) ? `; did you mean $${item}?` : ""
      mistake(at, `'${slot}' takes a $reference to a stage that gives ${kind}, not ${describe(item)}${meant}`)
      return []
    }
    const again = list.findIndex((other) => other instanceof Ref && other.stage === item.stage) < i
    if (again) mistake(at, `'${slot}' has $${item.stage} already; remove one`)
    if (study.stages.has(item.stage)) return [{ to: item.stage, path: at }]
    mistake(at, `no stage '${item.stage}'; ${suggest(item.stage, study.stages.keys())}`)
    return []
  })
}

/** The first reference inside a value. */
const findRef = (raw: Value, path: Path): Edge | undefined => {
  if (raw instanceof Ref) return { to: raw.stage, path }
  if (!isList(raw) && !isMapping(raw)) return undefined
  for (const [key, child] of Object.entries(raw)) {
    const found = findRef(child, [...path, isList(raw) ? Number(key) : key])
    if (found !== undefined) return found
  }
  return undefined
}
