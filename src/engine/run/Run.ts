/** Runs a plan: everything its targets need that is not in the store, and nothing else. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Estimate from "./Estimate.ts"
import * as Execution from "./Execution.ts"
import * as Machine from "./Machine.ts"
import type { Cell, Plan } from "../plan/Plan.ts"
import { type StudyError, StudyErrors } from "../Problem.ts"
import { Progress } from "./Progress.ts"
import type * as Stage from "../Stage.ts"
import { Store } from "../store/Store.ts"
import type { StoreError } from "../store/StoreError.ts"
import * as Survey from "./Survey.ts"
import type { Trace } from "../store/Trace.ts"

export interface Options<R> {
  /** How many cells are computed at the same time. */
  readonly jobs: number
  /** What to have in the end. Everything that nothing else needs, if left out. */
  readonly targets?: ReadonlyArray<Cell<R>>
  /** Targets whose documents the caller is going to read: that they exist is not enough, they must be right. */
  readonly read?: (cell: Cell<R>) => boolean
  /** Cells to compute again although they are there. */
  readonly forced?: (cell: Cell<R>) => boolean
  /** After a failure, compute what does not depend on it; otherwise only finish what has begun. */
  readonly keepGoing: boolean
  readonly fingerprint: Stage.Context["fingerprint"]
  readonly runtime: (code: string) => { readonly [name: string]: string }
}

export interface Report<R> {
  readonly targets: ReadonlyArray<Cell<R>>
  /** The targets and all that they are made from. */
  readonly wanted: ReadonlySet<Cell<R>>
  /** What was not simply there. */
  readonly outcomes: ReadonlyMap<Cell<R>, Execution.Outcome<R>>
  /** Results by cell, as far as there are any. */
  readonly traces: ReadonlyMap<Cell<R>, Trace>
}

/**
 * Never fails because a stage did: the report tells. Fails with the mistakes that stages find in what they are about to
 * do, before any of them runs.
 */
export const run = Effect.fn("Run.run")(function* <R>(
  plan: Plan<R>,
  {
    jobs,
    keepGoing,
    targets = Survey.sinks(plan),
    forced = () => false,
    read = () => false,
    fingerprint,
    runtime,
  }: Options<R>,
): Effect.fn.Return<Report<R>, StudyErrors | StoreError, Store | R> {
  const store = yield* Store
  const progress = yield* Progress
  const study = plan.study.name
  const survey = Survey.make(store, plan, forced)
  const wrong = targets.filter(read).flatMap((cell) => {
    const trace = survey.traces.get(cell)
    return trace === undefined || store.getDocument(trace.output) !== undefined ? [] : [trace.key]
  })
  survey.spoil(wrong)
  const pending = new Set(survey.pending(plan, targets))
  yield* check(plan, pending)
  const wanted = Survey.closure(targets)
  const estimate = Estimate.make<R>(study, pending.size === 0 ? [] : store.costs())
  progress.emit({ event: "planned", study, jobs, stages: countStages(plan, wanted, pending, estimate) })
  for (const [cell, { provenance }] of survey.traces)
    if (wanted.has(cell) && !pending.has(cell))
      progress.emit({ event: "cached", cell: cell.id, stage: cell.stage, seconds: provenance.seconds })

  const execution = Execution.make({
    environment: {
      store,
      study,
      files: new Map(
        plan.cells.flatMap((cell) => Object.values(cell.sources).map(({ digest, path }) => [digest, path])),
      ),
      fingerprint,
      runtime,
      progress,
      meter: Machine.meter(),
      expected: (cell) => estimate(cell)?.seconds,
      record: (cell, cost) => Effect.forEach(Estimate.records(study, cell, cost), store.recordCost, { discard: true }),
    },
    plan,
    survey,
    jobs,
    keepGoing,
  })
  if (pending.size > 0) {
    const inputs = new Set([...pending].flatMap(Survey.inputsOf))
    const holds = Array.from(inputs, (cell) => survey.traces.get(cell)?.key).filter((key) => key !== undefined)
    yield* store.withRun({ study, holds }, execution.obtain(targets))
  }
  // A store that cannot be written is still read.
  yield* Effect.forEach(survey.unlinked, ([cell, key]) => Effect.ignore(store.linkStatic(cell.staticKey, key)), {
    concurrency: "unbounded",
    discard: true,
  })
  return { targets, wanted, outcomes: execution.outcomes, traces: survey.traces }
})

/** Everything that is wrong with what is about to be computed, in one report. */
export const check = Effect.fnUntraced(function* <R>(plan: Plan<R>, pending: Iterable<Cell<R>>) {
  const errors = new Map<string, StudyError>()
  let since = performance.now()
  for (const cell of pending) {
    // Files are read and graphs drawn: the event loop gets its turn between cells.
    if (performance.now() - since > 10) {
      yield* Effect.yieldNow
      since = performance.now()
    }
    const outlined = yield* Effect.result(plan.outline(cell))
    if (Result.isFailure(outlined)) for (const error of outlined.failure.errors) errors.set(error.message, error)
  }
  const [first, ...rest] = errors.values()
  if (first !== undefined) return yield* new StudyErrors({ errors: [first, ...rest] })
})

const countStages = <R>(
  plan: Plan<R>,
  wanted: ReadonlySet<Cell<R>>,
  pending: ReadonlySet<Cell<R>>,
  estimate: Estimate.Estimate<R>,
) =>
  Array.from(plan.stages, ([stage, all]) => {
    const cells = all.filter((cell) => wanted.has(cell))
    const expected = all[0] && estimate(all[0])?.seconds
    const cached = cells.filter((cell) => !pending.has(cell)).length
    return { stage, cells: cells.length, cached, ...(expected !== undefined && { expected }) }
  }).filter(({ cells }) => cells > 0)
