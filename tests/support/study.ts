/** Studies of the product's own stages, planned and run as the command line does, in a folder and a store of the test's. */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import type { Pool } from "../../src/compute/Pool.ts"
import * as Locate from "../../src/engine/study/Locate.ts"
import * as Output from "../../src/engine/run/Output.ts"
import * as Plan from "../../src/engine/plan/Plan.ts"
import type { StudyErrors } from "../../src/engine/Problem.ts"
import * as Registry from "../../src/engine/plan/Registry.ts"
import * as Run from "../../src/engine/run/Run.ts"
import { Store } from "../../src/engine/store/Store.ts"
import * as Study from "../../src/engine/study/Study.ts"
import type * as Model from "../../stages/Model.ts"
import type * as Scores from "../../stages/Scores.ts"
import type * as Statistics from "../../stages/Statistics.ts"
import { write } from "./folder.ts"

export const pipelines = fileURLToPath(new URL("../../pipelines", import.meta.url))
export const registry = Registry.load<Pool>(fileURLToPath(new URL("../../stages", import.meta.url)))
const sha256 = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex")
/** Enough for a test: a module's own text. */
const fingerprint = (module: string) => Effect.sync(() => sha256(module))

/**
 * @param stages the entries under `stages`; the study is `root/study.yaml`, its first stage on line 3
 * @param set overrides, as after `--set`
 */
export const plan = Effect.fnUntraced(function* (root: string, stages: string, set: ReadonlyArray<string>) {
  const file = write(root, "study.yaml", `study: test\nstages:\n${stages.trimEnd().replace(/^/gm, "  ")}\n`)
  const study = yield* Study.load(file, { pipelines, set })
  return yield* Plan.make(study, {
    registry,
    fingerprint,
    digest: (path) => Effect.sync(() => sha256(path)),
    locate: Locate.make({ study: study.folder, pipelines }),
  })
})

export interface Result {
  readonly plan: Plan.Plan<Pool>
  readonly report: Run.Report<Pool>
  /** What failed, by cell. */
  readonly failures: { readonly [cell: string]: string }
  readonly computed: ReadonlyArray<string>
  /** The value of a cell that was computed or found. */
  readonly value: (cell: string) => Effect.Effect<any, never, Store>
}

export const run = Effect.fnUntraced(function* (root: string, stages: string, set: ReadonlyArray<string> = []) {
  const planned = yield* plan(root, stages, set)
  const report = yield* Run.run(planned, {
    jobs: 2,
    keepGoing: true,
    fingerprint,
    runtime: () => ({ node: process.versions.node }),
  })
  const outcomes = [...report.outcomes]
  const result: Result = {
    plan: planned,
    report,
    failures: Object.fromEntries(
      outcomes.flatMap(([{ id }, outcome]) => (outcome.kind === "failed" ? [[id, outcome.reason]] : [])),
    ),
    computed: outcomes.flatMap(([{ id }, { kind }]) => (kind === "computed" ? [id] : [])),
    value: Effect.fnUntraced(function* (id: string) {
      const cell = planned.cells.find((cell) => cell.id === id)!
      const trace = report.traces.get(cell)
      if (trace === undefined) throw new Error(`${id}: ${JSON.stringify(result.failures)}`)
      const store = yield* Store
      const { schema } = cell.definition.gives
      return yield* Effect.orDie(Output.decode(trace.output, schema, store.getDocument(trace.output)))
    }),
  }
  return result
})

export const model = (result: Result, cell: string): Effect.Effect<Model.Value, never, Store> => result.value(cell)
export const statistics = (result: Result, cell: string): Effect.Effect<Statistics.Value, never, Store> =>
  result.value(cell)
export const scores = (result: Result, cell: string): Effect.Effect<Scores.Value, never, Store> => result.value(cell)

/** The per-item records behind scores. */
export const records = Effect.fnUntraced(function* ({ records }: Scores.Value) {
  const store = yield* Store
  const text = Buffer.from(yield* Effect.orDie(store.readBlob(records))).toString()
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line))
})

/** `perplexity` or `acc[kind=place]` -> value. */
export const metrics = ({ metrics }: Scores.Value): { readonly [name: string]: number } =>
  Object.fromEntries(metrics.map(({ group, name, value }) => [group === undefined ? name : `${name}[${group}]`, value]))

/** What is wrong with the study or its stages, found before anything runs; paths relative to its folder. */
export const mistakes = (root: string, stages: string) =>
  run(root, stages).pipe(
    Effect.flip,
    Effect.map((errors) => (errors as StudyErrors).message.replaceAll(`${root}/`, "")),
  )

/** Why the cell failed while it ran. */
export const failure = (root: string, stages: string, cell: string) =>
  Effect.map(run(root, stages), ({ failures }) =>
    (failures[cell] ?? `no failure of ${cell}`).replaceAll(`${root}/`, ""),
  )

/** `effect` with a store that counts the work units it computes: name -> number. */
export const counting = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const store = yield* Store
  const units: { [name: string]: number } = {}
  const counted = Store.of({
    ...store,
    publish: (publication) => {
      const { kind, stage } = publication.trace
      if (kind === "unit") units[stage] = (units[stage] ?? 0) + 1
      return store.publish(publication)
    },
  })
  const value = yield* Effect.provideService(effect, Store, counted)
  return { value, units }
})
