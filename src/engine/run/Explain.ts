/**
 * Why a cell is computed: what its key is made of, compared with the nearest earlier result, part by part. Changed
 * inputs are followed up to where the change began.
 */
import type { Json } from "effect/Schema"
import * as Closure from "../plan/Closure.ts"
import { differences } from "./Difference.ts"
import type { Path, Position } from "../study/Document.ts"
import type { Identity, Inputs } from "../plan/Key.ts"
import type { Cell, Plan } from "../plan/Plan.ts"
import * as Preimage from "../plan/Preimage.ts"
import type { Service as Store } from "../store/Store.ts"
import { cellsOf, type Survey } from "./Survey.ts"
import type { Trace } from "../store/Trace.ts"

export type Reason =
  /** Nothing of its kind was ever computed. */
  | { readonly kind: "new" }
  /** It was computed, and the bytes are gone. */
  | { readonly kind: "lost" }
  | {
      readonly kind: "parameter"
      readonly path: Path
      readonly before: Json | undefined
      readonly after: Json | undefined
      readonly position: Position
    }
  /** Paths and package versions; empty where it is not known which. */
  | { readonly kind: "code"; readonly changed: ReadonlyArray<string> }
  | { readonly kind: "version" | "seed"; readonly before: number | undefined; readonly after: number | undefined }
  | { readonly kind: "file"; readonly slot: string; readonly path: string | undefined }
  /** `changed`: its bytes are others; otherwise it is to be computed first, and may come out the same. */
  | {
      readonly kind: "input"
      readonly slot: string
      readonly cell: string
      readonly changed: boolean
      readonly because: ReadonlyArray<Reason>
    }
  | {
      readonly kind: "gathered"
      readonly slot: string
      readonly added: ReadonlyArray<string>
      readonly removed: ReadonlyArray<string>
    }

export interface Explanation {
  readonly cell: string
  /** The result that stands, if the cell need not be computed. */
  readonly cached: Trace | undefined
  /** The earlier result that it is compared with. */
  readonly against: Trace | undefined
  readonly reasons: ReadonlyArray<Reason>
}

/** Earlier results of a stage that are looked at, to find the most similar. */
const candidates = 100

export const make = <R>(store: Store, plan: Plan<R>, survey: Survey<R>) => {
  const known = new Map<Cell<R>, Explanation>()

  const parsed = new Map<string, Preimage.Preimage | undefined>()
  const preimageOf = ({ key, preimage }: Trace) => {
    if (!parsed.has(key)) {
      const text = store.preimage(preimage)
      parsed.set(key, text === undefined ? undefined : Preimage.parse(text))
    }
    return parsed.get(key)
  }
  const earlier = (cell: Cell<R>) => store.nearest(plan.study.name, cell.id, cell.use, candidates)

  const why = (cell: Cell<R>): Explanation => {
    const done = known.get(cell)
    if (done !== undefined) return done
    const explanation = find(cell)
    known.set(cell, explanation)
    return explanation
  }

  const find = (cell: Cell<R>): Explanation => {
    const trace = survey.traces.get(cell)
    const cached = trace !== undefined && survey.isUsable(trace) ? trace : undefined
    if (trace !== undefined)
      return { cell: cell.id, cached, against: trace, reasons: cached === undefined ? [{ kind: "lost" }] : [] }
    const before = nearest(cell)
    if (before === undefined) return { cell: cell.id, cached, against: undefined, reasons: [{ kind: "new" }] }
    return { cell: cell.id, cached, against: before.trace, reasons: compare(cell, before.preimage) }
  }

  /** The same cell of the same study where there is one, otherwise the result with the fewest differences. */
  const nearest = (cell: Cell<R>) => {
    const found = earlier(cell).flatMap((trace) => {
      const preimage = preimageOf(trace)
      return preimage === undefined ? [] : [{ trace, preimage }]
    })
    const same = found.find(({ trace }) => trace.cell === cell.id && trace.provenance.study === plan.study.name)
    if (same !== undefined) return same
    const distances = found.map((it) => distance(cell, it.preimage))
    return found[distances.indexOf(Math.min(...distances))]
  }
  const distance = (cell: Cell<R>, { identity, inputs }: Preimage.Preimage) => {
    const changed = Object.keys(cell.inputs).filter(
      (slot) => expected(cell, slot).join() !== digestsIn(inputs[slot]).join(),
    )
    return differences(toJson(identity), toJson(cell.identity)).length + changed.length
  }

  /** The digests of an input; of one that is to be computed first, what it is itself compared with. */
  const expected = (cell: Cell<R>, slot: string) =>
    cellsOf(cell.inputs[slot]).map((input) => (survey.traces.get(input) ?? why(input).against)?.output)

  const compare = (cell: Cell<R>, { identity, inputs }: Preimage.Preimage): ReadonlyArray<Reason> => [
    ...compareIdentity(cell, identity),
    ...Object.keys(cell.inputs).flatMap((slot) => compareInput(cell, slot, inputs[slot])),
  ]

  const compareIdentity = (cell: Cell<R>, before: Identity): ReadonlyArray<Reason> => {
    const { identity: after } = cell
    const parameters = differences(before.params, after.params)
    const reasons: Array<Reason> = parameters.map(({ after, before, path }) => {
      return { kind: "parameter", path, before, after, position: plan.at(cell, path) }
    })
    const codes = [after.code, ...after.plugins]
    const codesBefore = [before.code, ...before.plugins]
    if (codes.join() !== codesBefore.join()) {
      const changed = codes.flatMap((code, i) =>
        codesBefore[i] === undefined ? [] : Closure.changes(store, codesBefore[i], code),
      )
      // Another plug-in by another parameter is told by the parameter.
      if (before.code !== after.code || reasons.length === 0)
        reasons.push({ kind: "code", changed: [...new Set(changed)] })
    }
    for (const kind of ["version", "seed"] as const)
      if (before[kind] !== after[kind]) reasons.push({ kind, before: before[kind], after: after[kind] })
    for (const { path } of differences(before.sources, after.sources)) {
      const slot = String(path[0])
      reasons.push({ kind: "file", slot, path: cell.sources[slot]?.path })
    }
    return reasons
  }

  const compareInput = (cell: Cell<R>, slot: string, before: Inputs[string] | undefined): ReadonlyArray<Reason> => {
    const inputs = cellsOf(cell.inputs[slot])
    if (!isGathered(before)) {
      const input = inputs[0]
      if (input === undefined)
        return before == null ? [] : [{ kind: "gathered", slot, added: [], removed: ["its cell"] }]
      return changedInput(slot, input, before ?? undefined)
    }
    const digests = new Map(before.map(([id, , digest]) => [id, digest]))
    const now = new Set(inputs.map(({ id }) => id))
    const added = inputs.filter(({ id }) => !digests.has(id)).map(({ id }) => id)
    const removed = [...digests.keys()].filter((id) => !now.has(id))
    const kept = inputs.filter(({ id }) => digests.has(id))
    return [
      ...(added.length + removed.length > 0 ? [{ kind: "gathered" as const, slot, added, removed }] : []),
      ...kept.flatMap((input) => changedInput(slot, input, digests.get(input.id))),
    ]
  }

  const changedInput = (slot: string, input: Cell<R>, before: string | undefined): ReadonlyArray<Reason> => {
    const trace = survey.traces.get(input)
    if (trace?.output === before) return []
    return [{ kind: "input", slot, cell: input.id, changed: trace !== undefined, because: causes(input, before) }]
  }
  /** Why an input is no longer what it was: compared with the result that it was, if that is remembered. */
  const causes = (input: Cell<R>, before: string | undefined): ReadonlyArray<Reason> => {
    if (!survey.traces.has(input)) return why(input).reasons
    const then = earlier(input).find(({ output }) => output === before)
    const preimage = then && preimageOf(then)
    return preimage === undefined ? [] : compare(input, preimage)
  }

  return { why }
}

const toJson = (identity: Identity): Json => JSON.parse(JSON.stringify(identity))
const isGathered = (input: Inputs[string] | undefined): input is Exclude<Inputs[string], string | null> =>
  typeof input === "object" && input !== null
const digestsIn = (input: Inputs[string] | undefined): ReadonlyArray<string> =>
  isGathered(input) ? input.map(([, , digest]) => digest) : input == null ? [] : [input]
