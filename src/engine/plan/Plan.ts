/** Study -> cells: typed, ordered, keyed. No stage runs here, so every mistake costs nothing. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type { Json } from "effect/Schema"
import * as Blueprint from "../study/Blueprint.ts"
import * as Cells from "./Cells.ts"
import type { Path, Position } from "../study/Document.ts"
import * as Key from "./Key.ts"
import { Mistakes } from "../study/Mistakes.ts"
import { StudyError, StudyErrors } from "../Problem.ts"
import type * as Registry from "./Registry.ts"
import type * as Stage from "../Stage.ts"
import type { Study } from "../study/Study.ts"

/** One unit of the plan: a stage at one point of its sweep. Cells are compared by identity. */
export interface Cell<R> {
  /** `quant[weights=w4-g64, kv=kv4]`, or the stage's name where nothing is swept. Unique in the plan. */
  readonly id: string
  /** The stage's name in the study. */
  readonly stage: string
  readonly use: string
  readonly definition: Stage.Any<R>
  readonly coordinates: Stage.Coordinates
  /** Decoded. Cells at the same point of their stage's sweep share one object. */
  readonly params: { readonly [name: string]: unknown }
  readonly hints: { readonly [name: string]: unknown }
  /** By slot: a cell (`one`), a cell or nothing (`optional`), all cells of the referenced stages in order (`many`). */
  readonly inputs: { readonly [slot: string]: Cell<R> | undefined | ReadonlyArray<Cell<R>> }
  readonly sources: Stage.Sources
  /** What the keys say of the cell apart from its inputs, `code` among it. */
  readonly identity: Key.Identity
  /** Known without running anything: inputs stand in it by their own static keys. */
  readonly staticKey: string
}

/** Digests of a cell's inputs, shaped as `cell.inputs`. */
export type InputDigests = { readonly [slot: string]: string | undefined | ReadonlyArray<string> }

export interface Plan<R> {
  readonly study: Study
  /** Every cell after the cells that it needs, otherwise in document order. */
  readonly cells: ReadonlyArray<Cell<R>>
  /** The cells of each stage, in order. */
  readonly stages: ReadonlyMap<string, ReadonlyArray<Cell<R>>>
  /** Where a parameter of a cell is written: through its matrix, zip or include where the value comes from there. */
  readonly at: (cell: Cell<R>, path: Path) => Position
  /** The cell's outline, from its inputs' outlines; computed once. Call it for cells that will be computed only. */
  readonly outline: (cell: Cell<R>) => Effect.Effect<unknown, StudyErrors>
}

export interface Options<R> {
  readonly registry: Registry.Registry<R>
  /** Code fingerprint of a module, by absolute path. */
  readonly fingerprint: (module: string) => Effect.Effect<string, { readonly reason: string }>
  /** SHA-256 of a file's content. */
  readonly digest: (path: string) => Effect.Effect<string, { readonly reason: string }>
  readonly locate: Stage.Locate
}

/**
 * Expands and checks a study: stages exist, references lead to the right kinds, parameters decode, files are there.
 * Nothing runs, and only the stages in use are imported. Fails with every mistake found, in order of place.
 */
export const make = Effect.fnUntraced(function* <R>(
  study: Study,
  options: Options<R>,
): Effect.fn.Return<Plan<R>, StudyErrors> {
  const mistakes = new Mistakes()
  const blueprints = new Map<string, Blueprint.Blueprint<R>>()
  for (const entry of study.stages.values()) {
    const registered = yield* Effect.result(options.registry.get(entry.use))
    if (Result.isFailure(registered)) mistakes.add(study.at(entry.name, ["use"]), registered.failure.reason)
    else blueprints.set(entry.name, Blueprint.make(entry, registered.success, study, mistakes))
  }
  checkKinds(blueprints, study, mistakes)
  const order = sort(blueprints, study, mistakes)
  yield* mistakes.check

  const made = yield* Cells.make(order, study, options, mistakes)
  yield* mistakes.check
  const stages = new Map([...made].map(([name, cells]) => [name, cells.map(({ cell }) => cell)]))
  const points = new Map([...made.values()].flat().map(({ cell, point }) => [cell, point]))
  const at = (cell: Cell<R>, path: Path) =>
    study.at(cell.stage, Blueprint.pathOf(points.get(cell)?.choices ?? [], path))
  return { study, cells: [...points.keys()], stages, at, outline: outlines(at) }
})

/** The distinct references of a stage: points of a sweep mostly share them. */
const edgesOf = ({ points }: Blueprint.Blueprint<any>): ReadonlyArray<readonly [slot: string, Blueprint.Edge]> => {
  const seen = new Map<Blueprint.Edge, string>()
  for (const { edges } of points) {
    for (const slot in edges) for (const edge of edges[slot]!) seen.set(edge, slot)
  }
  return [...seen].map(([edge, slot]) => [slot, edge])
}

const checkKinds = (
  blueprints: ReadonlyMap<string, Blueprint.Blueprint<any>>,
  study: Study,
  mistakes: Mistakes,
): void => {
  for (const [name, blueprint] of blueprints) {
    for (const [slot, edge] of edgesOf(blueprint)) {
      // A stage that could not be loaded has its mistake already.
      const target = blueprints.get(edge.to)?.registered
      const wants = blueprint.registered.stage.needs[slot]!.artifact.kind
      if (target === undefined || target.stage.gives.kind === wants) continue
      const gives = `$${edge.to} (${target.use}) gives ${target.stage.gives.kind}`
      mistakes.add(study.at(name, edge.path), `'${slot}' needs ${wants}, but ${gives}`)
    }
  }
}

/** Depth first in document order: what a stage needs comes before it, and nothing else moves. */
const sort = <R>(
  blueprints: ReadonlyMap<string, Blueprint.Blueprint<R>>,
  study: Study,
  mistakes: Mistakes,
): ReadonlyArray<Blueprint.Blueprint<R>> => {
  const sorted = new Set<Blueprint.Blueprint<R>>()
  const open: Array<string> = []
  const visit = (name: string, blueprint: Blueprint.Blueprint<R>): void => {
    if (sorted.has(blueprint)) return
    open.push(name)
    for (const [, { to, path }] of edgesOf(blueprint)) {
      const target = blueprints.get(to)
      if (target === undefined) continue
      if (!open.includes(to)) visit(to, target)
      else {
        const circle = [...open.slice(open.indexOf(to)), to].join(" -> ")
        mistakes.add(study.at(name, path), `stages refer to each other in a circle: ${circle}`)
      }
    }
    open.pop()
    sorted.add(blueprint)
  }
  for (const [name, blueprint] of blueprints) visit(name, blueprint)
  return [...sorted]
}

const outlines = <R>(at: Plan<R>["at"]): Plan<R>["outline"] => {
  const known = new Map<Cell<R>, Exit.Exit<unknown, StudyErrors>>()
  const compute = Effect.fnUntraced(function* (cell: Cell<R>): Effect.fn.Return<unknown, StudyErrors> {
    const inputs: Record<string, unknown> = {}
    for (const [slot, input] of Object.entries(cell.inputs)) {
      if (input === undefined) continue
      if (!("length" in input)) inputs[slot] = yield* outline(input)
      else {
        inputs[slot] = yield* Effect.forEach(input, (gathered) =>
          Effect.map(outline(gathered), (value) => ({
            cell: gathered.id,
            coordinates: gathered.coordinates,
            value,
          })),
        )
      }
    }
    const paths = Object.fromEntries(Object.entries(cell.sources).map(([slot, { path }]) => [slot, path]))
    return yield* cell.definition
      .outline(cell.params, inputs, paths)
      .pipe(
        Effect.mapError(
          ({ path, reason }) => new StudyErrors({ errors: [new StudyError({ ...at(cell, path), reason })] }),
        ),
      )
  })
  const outline = (cell: Cell<R>): Effect.Effect<unknown, StudyErrors> =>
    Effect.suspend(() => {
      const exit = known.get(cell)
      if (exit !== undefined) return exit
      return Effect.onExit(compute(cell), (exit) =>
        Effect.sync(() => {
          // An interruption says nothing of the cell.
          if (!Exit.hasInterrupts(exit)) known.set(cell, exit)
        }),
      )
    })
  return outline
}

const keyInputs = <R>(cell: Cell<R>, one: (cell: Cell<R>, slot: string, index: number | undefined) => string) => {
  const inputs: Record<string, Key.Inputs[string]> = {}
  for (const [slot, input] of Object.entries(cell.inputs)) {
    inputs[slot] =
      input === undefined
        ? null
        : "length" in input
          ? input.map((it, i) => [it.id, Object.entries(it.coordinates), one(it, slot, i)] as const)
          : one(input, slot, undefined)
  }
  return inputs
}
const byKey = <R>(cell: Cell<R>) => keyInputs(cell, ({ staticKey }) => staticKey)
const byDigest = <R>(cell: Cell<R>, digests: InputDigests) =>
  keyInputs(cell, (_, slot, index) => {
    const digest = digests[slot]
    return (index === undefined ? digest : digest?.[index]) as string
  })

/** What the static key is made of, for `why`. */
export const staticPreimage = <R>(cell: Cell<R>): Json => Key.preimage("static/1", cell.identity, byKey(cell))

/** What the content key is made of: the same with the digests of the inputs' outputs. */
export const contentPreimage = <R>(cell: Cell<R>, inputs: InputDigests): Json =>
  Key.preimage("content/1", cell.identity, byDigest(cell, inputs))

/** The key that a result is stored under: a new run upstream that gives the same bytes changes nothing here. */
export const contentKey = <R>(cell: Cell<R>, inputs: InputDigests): string =>
  Key.make("content/1", cell.identity, byDigest(cell, inputs))

/** The running stage's seed: 0 unless the stage is `seeded`. */
export const seed = <R>(cell: Cell<R>, inputs: InputDigests): bigint => Key.seed(cell.identity, byDigest(cell, inputs))
