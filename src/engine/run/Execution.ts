/**
 * Demand-driven: a cell is asked for, and asks for its inputs only when its own result is not there. Knowing what an
 * input's output *is* often suffices (`identify`); its bytes are made sure of only when a stage is about to read them
 * (`obtain`). Bytes that turn out to be gone are computed again, up the inputs as far as it takes.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Cost } from "../store/Costs.ts"
import * as Gate from "./Gate.ts"
import type { Lease } from "../store/Leases.ts"
import * as Output from "./Output.ts"
import * as Plan from "../plan/Plan.ts"
import type { Cell } from "../plan/Plan.ts"
import * as Preimage from "../plan/Preimage.ts"
import { BlobLost, type StageFailure } from "../Problem.ts"
import * as Publish from "./Publish.ts"
import * as StageContext from "./StageContext.ts"
import type { StoreError } from "../store/StoreError.ts"
import { inputsOf, shaped, type Survey } from "./Survey.ts"
import type { Trace } from "../store/Trace.ts"

/** What became of a cell that was not simply there. */
export type Outcome<R> =
  | { readonly kind: "computed"; readonly trace: Trace }
  /** Its inputs came out as they were before, or someone else computed it meanwhile. */
  | { readonly kind: "found"; readonly trace: Trace }
  | { readonly kind: "failed"; readonly reason: string; readonly cause: Cause.Cause<unknown> }
  /** Not computed: `because` is the failed cell it depends on; without it, the run was stopping. */
  | { readonly kind: "skipped"; readonly because: Cell<R> | undefined }

export interface Options<R> {
  readonly environment: StageContext.Environment & {
    /** Seconds that the cell should take, by the runs before. */
    readonly expected: (cell: Cell<R>) => number | undefined
    /** Remembers what the cell took; bytes are those that were put. */
    readonly record: (
      cell: Cell<R>,
      cost: Pick<Cost, "seconds" | "peakMemory" | "bytes">,
    ) => Effect.Effect<void, StoreError>
  }
  readonly plan: Plan.Plan<R>
  readonly survey: Survey<R>
  readonly jobs: number
  readonly keepGoing: boolean
}

/** Why a cell has no result: see `Outcome`. */
class Stopped<R> {
  readonly because: Cell<R> | undefined
  constructor(because: Cell<R> | undefined) {
    this.because = because
  }
}

/** A result, and the cell that this run computed it for; none if it was there or came from elsewhere. */
interface Flight<R> {
  readonly trace: Trace
  readonly computedFor: Cell<R> | undefined
}

type Refusal<R> = StageFailure | BlobLost | StoreError | Stopped<R>
type Ask<R> = (cell: Cell<R>) => Effect.Effect<Trace, Stopped<R>, R>

/** How often bytes may turn out to be lost before that is called a failure. */
const attempts = 4

/** Returns what computes the targets; it never fails, outcomes tell. */
export const make = <R>({ environment, jobs, keepGoing, plan, survey }: Options<R>) => {
  const { progress, store } = environment
  const outcomes = new Map<Cell<R>, Outcome<R>>()
  const gate = Gate.make(jobs)
  const order = new Map(plan.cells.map((cell, i) => [cell, i]))
  let stopping = false

  /** One flight for all who ask for the same thing at the same time. */
  const once = <K, A, E>(flights: Map<K, Deferred.Deferred<A, E>>, key: K, effect: Effect.Effect<A, E, R>) =>
    Effect.suspend((): Effect.Effect<A, E, R> => {
      const flight = flights.get(key)
      if (flight !== undefined) return Deferred.await(flight)
      const mine = Deferred.makeUnsafe<A, E>()
      flights.set(key, mine)
      return Effect.onExit(effect, (exit) =>
        Effect.sync(() => {
          flights.delete(key)
          Deferred.doneUnsafe(mine, exit)
        }),
      )
    })
  const identifying = new Map<Cell<R>, Deferred.Deferred<Trace, Stopped<R>>>()
  const obtaining = new Map<Cell<R>, Deferred.Deferred<Trace, Stopped<R>>>()
  const computing = new Map<string, Deferred.Deferred<Flight<R>, Refusal<R>>>()

  /** All of them are tried: one's failure does not interrupt another that something else may need. */
  const all = (cells: ReadonlyArray<Cell<R>>, ask: Ask<R>): Effect.Effect<void, Stopped<R>, R> =>
    Effect.flatMap(
      Effect.forEach(cells, (cell) => Effect.exit(ask(cell)), { concurrency: "unbounded" }),
      (exits) => Effect.asVoid(exits.find(Exit.isFailure) ?? Exit.void),
    )

  const stop = (cell: Cell<R>, because: Cell<R> | undefined) => {
    outcomes.set(cell, { kind: "skipped", because })
    progress.emit({
      event: "skipped",
      cell: cell.id,
      stage: cell.stage,
      ...(because !== undefined && { because: because.id }),
    })
    return Effect.fail(new Stopped(because))
  }
  const fail = (cell: Cell<R>, cause: Cause.Cause<unknown>) => {
    const error = Cause.squash(cause)
    const reason = error instanceof Error ? error.message : String(error)
    stopping ||= !keepGoing
    outcomes.set(cell, { kind: "failed", reason, cause })
    progress.emit({ event: "failed", cell: cell.id, stage: cell.stage, reason })
    return Effect.fail(new Stopped(cell))
  }
  const found = (cell: Cell<R>, trace: Trace) => {
    outcomes.set(cell, { kind: "found", trace })
    const { seconds } = trace.provenance
    progress.emit({ event: "found", cell: cell.id, stage: cell.stage, seconds })
    return Effect.as(Effect.ignore(store.linkStatic(cell.staticKey, trace.key)), trace)
  }

  /** What the cell's output is; the bytes may be gone. */
  const identify: Ask<R> = (cell) =>
    Effect.suspend(() => {
      const known = survey.traces.get(cell)
      if (known !== undefined) return Effect.succeed(known)
      return once(
        identifying,
        cell,
        Effect.flatMap(inputsKnown(cell), () => {
          const trace = survey.learn(cell)
          return trace === undefined ? obtain(cell) : Effect.succeed(trace)
        }),
      )
    })
  const inputsKnown = (cell: Cell<R>) => {
    const unknown = inputsOf(cell).filter((input) => !survey.traces.has(input))
    return unknown.length === 0 ? Effect.void : all(unknown, identify)
  }
  const inputsThere = (cell: Cell<R>) => {
    const missing = inputsOf(cell).filter((input) => !survey.has(input))
    return missing.length === 0 ? Effect.void : all(missing, obtain)
  }

  /** The cell's result, with its bytes. */
  const obtain: Ask<R> = (cell) =>
    Effect.suspend(() => {
      if (survey.has(cell)) return Effect.succeed(survey.traces.get(cell)!)
      const outcome = outcomes.get(cell)
      if (outcome?.kind === "failed") return Effect.fail(new Stopped(cell))
      if (outcome?.kind === "skipped") return Effect.fail(new Stopped(outcome.because))
      return once(obtaining, cell, produce(cell))
    })

  const produce = Effect.fnUntraced(function* (cell: Cell<R>): Effect.fn.Return<Trace, Stopped<R>, R> {
    for (let attempt = 1; ; attempt++) {
      yield* Effect.catch(inputsKnown(cell), ({ because }) => stop(cell, because))
      const trace = survey.learn(cell)
      if (trace !== undefined && survey.isUsable(trace)) return yield* found(cell, trace)

      yield* Effect.catch(inputsThere(cell), ({ because }) => stop(cell, because))
      const exit = yield* Effect.exit(compute(cell))
      if (Exit.isSuccess(exit)) {
        const { computedFor, trace } = exit.value
        survey.settle(cell, trace)
        if (computedFor !== cell) return yield* found(cell, trace)
        outcomes.set(cell, { kind: "computed", trace })
        return trace
      }
      if (Cause.hasInterruptsOnly(exit.cause)) return yield* Effect.interrupt
      const error = Cause.squash(exit.cause)
      if (error instanceof Stopped) return yield* stop(cell, error.because)
      if (!(error instanceof BlobLost) || attempt === attempts) return yield* fail(cell, exit.cause)
      forget(cell, error)
    }
  })

  /** The inputs that promised those bytes have to be made again. */
  const forget = (cell: Cell<R>, { digest }: BlobLost) => {
    const promised = inputsOf(cell).flatMap((input) => survey.traces.get(input) ?? [])
    survey.spoil(
      promised
        .filter(({ blobs, output }) => {
          if (output === digest || blobs.includes(digest)) return true
          const document = store.getDocument(output)
          return document === undefined || Buffer.from(document).includes(digest)
        })
        .map(({ key }) => key),
    )
  }

  const compute = (cell: Cell<R>) =>
    Effect.suspend(() => {
      const digests = survey.digests(cell)!
      const key = Plan.contentKey(cell, shaped(cell, digests))
      const find = Effect.sync((): Flight<R> | undefined => {
        const trace = survey.find(cell, key)
        return trace && { trace, computedFor: undefined }
      })
      const flight = Effect.suspend((): Effect.Effect<Flight<R>, Refusal<R>, R> => {
        if (stopping) return Effect.fail(new Stopped(undefined))
        return store.singleFlight(key, find, (lease) => execute(cell, key, digests, lease))
      })
      // Shared before there is a permit to wait for: two cells of one key never hold two.
      return once(computing, key, gate.pass(order.get(cell)!, flight))
    })

  const execute = Effect.fnUntraced(function* (cell: Cell<R>, key: string, digests: Trace["inputs"], lease: Lease) {
    const { id, definition, stage } = cell
    const expected = environment.expected(cell)
    progress.emit({ event: "started", cell: id, stage, ...(expected !== undefined && { expected }) })
    const { context, log, stored, touched } = StageContext.make(
      environment,
      cell,
      Plan.seed(cell, shaped(cell, digests)),
    )
    const { outcome, trace } = yield* Publish.measured(environment, {
      key,
      kind: "stage",
      stage: cell.use,
      cell: id,
      coordinates: cell.coordinates,
      code: cell.identity.code,
      inputs: digests,
      preimage: Preimage.make(plan.study, cell, shaped(cell, digests)),
      staticKey: cell.staticKey,
      touched,
      log,
      lease,
      compute: Effect.gen(function* () {
        const inputs = yield* readInputs(cell, digests)
        const value = yield* definition.run({ ...cell.params, ...cell.hints }, inputs, context)
        return yield* Output.encode(id, definition.gives.schema, value)
      }),
    })
    if (outcome === "different")
      progress.emit({ event: "log", cell: id, message: "gave another result than before; the one before stays" })
    const { peakMemory, seconds } = trace.provenance
    const bytes = [...stored.values()].reduce((sum, size) => sum + size, 0)
    yield* Effect.ignore(environment.record(cell, { seconds, peakMemory, bytes }))
    progress.emit({ event: "finished", cell: id, stage, seconds, peakMemory })
    return { trace, computedFor: cell } satisfies Flight<R>
  })

  /** The inputs' values, in the shape that the stage's needs ask for. */
  const readInputs = Effect.fnUntraced(function* (cell: Cell<R>, digests: Trace["inputs"]) {
    const value = (input: Cell<R>, digest: string) =>
      Output.decode(digest, input.definition.gives.schema, store.getDocument(digest))
    const inputs: Record<string, unknown> = {}
    for (const [slot, input] of Object.entries(cell.inputs)) {
      if (input === undefined) continue
      const outputs = digests[slot]!
      if (!("length" in input)) inputs[slot] = yield* value(input, outputs[0]!)
      else {
        inputs[slot] = yield* Effect.forEach(input, (gathered, i) =>
          Effect.map(value(gathered, outputs[i]!), (value) => ({
            cell: gathered.id,
            coordinates: gathered.coordinates,
            value,
          })),
        )
      }
    }
    return inputs
  })

  return { obtain: (cells: ReadonlyArray<Cell<R>>) => Effect.ignore(all(cells, obtain)), outcomes }
}
