/** A study file and what it includes, read and merged: stages as written, variables filled in, every value at its place. */
import * as Effect from "effect/Effect"
import { dirname, resolve } from "node:path"
import { type Mapping, type Path, type Position, describe, isMapping, placeAt, placeOf } from "./Document.ts"
import * as Entry from "./Entry.ts"
import { Files, type Merged } from "./Include.ts"
import { Mistakes } from "./Mistakes.ts"
import { suggest } from "./Nearest.ts"
import * as Override from "./Override.ts"
import type { StudyErrors } from "../Problem.ts"
import * as Variables from "./Variables.ts"

export interface Study {
  /** The study file's absolute path, and the folder that its relative paths start from. */
  readonly file: string
  readonly folder: string
  readonly name: string
  readonly description: string | undefined
  readonly seed: number
  /** In document order, stages of included files first. */
  readonly stages: ReadonlyMap<string, Entry.Entry>
  /** `--set` arguments, as written. */
  readonly overrides: ReadonlyArray<string>
  /** Absolute paths of the study file and of every included file. */
  readonly files: ReadonlyArray<string>
  /**
   * Where a field of a stage is written (`["matrix", "weights", 1, "bits"]`), following includes and overrides; for a
   * path that is not there, the nearest enclosing place that is. `[]` is the stage's own name.
   */
  readonly at: (stage: string, path: Path, part?: "key" | "value") => Position
}

export interface Options {
  /** The product's `pipelines/` folder, from which files may be included as `bundled:x.yaml`. */
  readonly pipelines: string
  /** `stage.parameter.sub=value` (value in YAML), `vars.name=value` or `seed=value`. */
  readonly set?: ReadonlyArray<string>
}

/**
 * Reads a study file and what it includes. Fails with every mistake found, each at its line and column. References are
 * not followed here and parameters not decoded: that takes the stages, and is the plan's work.
 */
export const load: (file: string, options: Options) => Effect.Effect<Study, StudyErrors> = Effect.fnUntraced(
  function* (file, options) {
    const mistakes = new Mistakes()
    const overrides = (options.set ?? []).flatMap((argument, i) => Override.read(argument, i + 1, mistakes) ?? [])
    const absolute = resolve(file)
    const start = { file, line: 1, column: 1 }
    const files = new Files(dirname(absolute), options.pipelines, mistakes)
    const merged = files.read(absolute, file, start)
    // A file that is not YAML has no names to check anything else against.
    yield* merged === undefined ? mistakes.check : Effect.void
    const whole = overrides.reduce((root, it) => overrideTop(root, it, mistakes), merged!)

    const fill = Variables.make(whole.vars, mistakes)
    const head = readHead(whole.top, start, fill, mistakes)
    const roots = readRoots(whole.stages, overrides, fill, mistakes)
    const stages = new Map<string, Entry.Entry>()
    for (const [name, root] of roots) {
      const entry = Entry.read(name, root, placeOf(whole.stages, name)!.key, mistakes)
      if (entry !== undefined) stages.set(name, entry)
    }
    if (Object.keys(whole.stages).length === 0 && !mistakes.any) {
      const at = placeOf(whole.top, "stages")?.key ?? start
      mistakes.add(at, "the study has no stages; add 'stages: { name: { use: … } }'")
    }
    yield* mistakes.check

    return {
      ...head,
      file: absolute,
      folder: dirname(absolute),
      stages,
      overrides: options.set ?? [],
      files: files.seen,
      at: (stage, path, part = "value") =>
        placeAt(roots.get(stage) ?? null, path)?.[part] ?? placeOf(whole.stages, stage)?.key ?? start,
    }
  },
)

const readHead = (top: Mapping, start: Position, fill: Variables.Fill, mistakes: Mistakes) => {
  const text = (key: "study" | "description"): string | undefined => {
    const at = placeOf(top, key)?.value ?? start
    const value = fill(top[key] ?? null, at)
    if (value === null || typeof value === "string") return value ?? undefined
    mistakes.add(at, `'${key}' must be text, not ${describe(value)}`)
    return undefined
  }
  const name = text("study") ?? ""
  const description = text("description")
  if (name === "" && !mistakes.any) mistakes.add(start, "the study has no name; add 'study: <name>'")
  const seed = top["seed"] ?? 0
  if (typeof seed === "number" && Number.isSafeInteger(seed)) return { name, description, seed }
  mistakes.add(placeOf(top, "seed")!.value, `'seed' must be a whole number, not ${describe(seed)}`)
  return { name, description, seed: 0 }
}

/** Each stage's mapping with variables filled in and overrides applied. */
const readRoots = (
  stages: Mapping,
  overrides: ReadonlyArray<Override.Override>,
  fill: Variables.Fill,
  mistakes: Mistakes,
): ReadonlyMap<string, Mapping> => {
  const roots = new Map<string, Mapping>()
  for (const [name, raw] of Object.entries(stages)) {
    const place = placeOf(stages, name)!
    if (!STAGE_NAME.test(name) || name === "vars") {
      mistakes.add(place.key, `'${name}' cannot name a stage; use letters, digits, '_' and '-', a letter first`)
      continue
    }
    const root = fill(raw, place.value)
    if (isMapping(root)) roots.set(name, root)
    else mistakes.add(place.value, `stage '${name}' must be a mapping such as { use: … }, not ${describe(root)}`)
  }
  for (const override of overrides) {
    if (isTop(override)) continue
    const { path, at, value, valueAt } = override
    const name = path[0]!
    const root = roots.get(name)
    if (!Object.hasOwn(stages, name)) mistakes.add(at, `no stage '${name}'; ${suggest(name, Object.keys(stages))}`)
    else if (path.length === 1) {
      mistakes.add(at, `'${name}' is a stage; say which parameter: ${name}.<parameter>=value`)
    } else if (root !== undefined) {
      roots.set(name, Override.apply(root, { ...override, value: fill(value, valueAt) }, 1, mistakes))
    }
  }
  return roots
}

const STAGE_NAME = /^[A-Za-z_][A-Za-z0-9_-]*$/
const isTop = ({ path }: Override.Override) => path[0] === "vars" || (path.length === 1 && path[0] === "seed")

const overrideTop = (merged: Merged, override: Override.Override, mistakes: Mistakes): Merged => {
  if (!isTop(override)) return merged
  if (override.path[0] === "seed") return { ...merged, top: Override.apply(merged.top, override, 0, mistakes) }
  const name = override.path[1] ?? ""
  if (Object.hasOwn(merged.vars, name)) return { ...merged, vars: Override.apply(merged.vars, override, 1, mistakes) }
  mistakes.add(override.at, `no variable '${name}' under vars; ${suggest(name, Object.keys(merged.vars))}`)
  return merged
}
