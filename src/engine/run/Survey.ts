/**
 * What the store already knows of a plan, found without running anything: one pass over the cells, in which each costs
 * a lookup or two. A run that finds nothing to do consists of this.
 */
import * as Plan from "../plan/Plan.ts"
import type { Cell } from "../plan/Plan.ts"
import type { Service as Store } from "../store/Store.ts"
import type { Trace } from "../store/Trace.ts"

/** The cells under one slot, in order. */
export const cellsOf = <R>(input: Cell<R>["inputs"][string]): ReadonlyArray<Cell<R>> =>
  input === undefined ? [] : Array.isArray(input) ? input : [input as Cell<R>]

export const inputsOf = <R>(cell: Cell<R>): ReadonlyArray<Cell<R>> => {
  const values = Object.values(cell.inputs)
  return values.length === 1 ? cellsOf(values[0]) : values.flatMap((input) => cellsOf(input))
}

/** Cells that no other cell needs. */
export const sinks = <R>(plan: Plan.Plan<R>): ReadonlyArray<Cell<R>> => {
  const needed = new Set<Cell<R>>()
  for (const cell of plan.cells) for (const input of inputsOf(cell)) needed.add(input)
  return plan.cells.filter((cell) => !needed.has(cell))
}

/**
 * Traces by cell. A trace in it tells what the cell's output is; whether the bytes still exist is another question
 * (`isUsable`), and asked only of what is about to be used.
 */
export class Survey<R> {
  readonly traces = new Map<Cell<R>, Trace>()
  /** Content keys of cells that were found although their static keys did not lead there yet. */
  readonly unlinked = new Map<Cell<R>, string>()
  readonly #store: Store
  readonly #forced: (cell: Cell<R>) => boolean
  /** Keys computed by this run: a forced cell is satisfied with them. */
  readonly #fresh = new Set<string>()
  readonly #usable = new Set<Trace>()
  /** Keys whose results turned out to be damaged. */
  readonly #spoiled = new Set<string>()

  constructor(store: Store, forced: (cell: Cell<R>) => boolean) {
    this.#store = store
    this.#forced = forced
  }

  /** What is known of a cell, by its static key or, where all its inputs are known, by its content key. */
  look(cell: Cell<R>): Trace | undefined {
    if (this.#forced(cell)) {
      const key = this.contentKey(cell)
      return key === undefined ? undefined : this.find(cell, key)
    }
    const linked = this.#store.resolveStatic(cell.staticKey)
    const trace = linked === undefined ? undefined : this.#store.trace(linked)
    if (trace !== undefined && this.#agrees(cell, trace)) return trace
    const key = this.contentKey(cell)
    const found = key === undefined || key === linked ? undefined : this.#store.trace(key)
    if (found !== undefined) this.unlinked.set(cell, found.key)
    return found
  }

  /** A static key may lead to a result of inputs that have since come out differently. */
  #agrees(cell: Cell<R>, trace: Trace): boolean {
    for (const slot of Object.keys(cell.inputs)) {
      const recorded = trace.inputs[slot] ?? []
      const inputs = cellsOf(cell.inputs[slot])
      for (let i = 0; i < inputs.length; i++) {
        const known = this.traces.get(inputs[i]!)
        if (known !== undefined && known.output !== recorded[i]) return false
      }
    }
    return true
  }

  /** The result under a key, if the cell may be satisfied with it and it is all there. */
  find(cell: Cell<R>, key: string): Trace | undefined {
    if (this.#forced(cell) && !this.#fresh.has(key)) return undefined
    const trace = this.#store.trace(key)
    return trace !== undefined && this.isUsable(trace) ? trace : undefined
  }

  learn(cell: Cell<R>): Trace | undefined {
    const trace = this.look(cell)
    if (trace !== undefined) this.traces.set(cell, trace)
    return trace
  }

  /** Output digests of a cell's inputs, as far as they are known. */
  digests(cell: Cell<R>): { readonly [slot: string]: ReadonlyArray<string> } | undefined {
    const digests: Record<string, ReadonlyArray<string>> = {}
    for (const slot of Object.keys(cell.inputs)) {
      const outputs = cellsOf(cell.inputs[slot]).map((input) => this.traces.get(input)?.output)
      if (outputs.includes(undefined)) return undefined
      digests[slot] = outputs as ReadonlyArray<string>
    }
    return digests
  }

  contentKey(cell: Cell<R>): string | undefined {
    const digests = this.digests(cell)
    return digests && Plan.contentKey(cell, shaped(cell, digests))
  }

  /** Whether document and blobs are there. Asked once, until something turns out to be lost. */
  isUsable(trace: Trace): boolean {
    if (this.#usable.has(trace)) return true
    if (this.#spoiled.has(trace.key) || !this.#store.isComplete(trace)) return false
    this.#usable.add(trace)
    return true
  }

  /** Bytes that were promised are gone: nothing is taken for granted any more, these results least of all. */
  spoil(keys: Iterable<string>) {
    this.#usable.clear()
    for (const key of keys) this.#spoiled.add(key)
  }

  /** This run computed the cell. */
  settle(cell: Cell<R>, trace: Trace) {
    this.#spoiled.delete(trace.key)
    this.#fresh.add(trace.key)
    this.traces.set(cell, trace)
  }

  /** Whether the cell's result can be used as it is. */
  has(cell: Cell<R>): boolean {
    const trace = this.traces.get(cell)
    return trace !== undefined && this.isUsable(trace)
  }

  /** The cells that stand between the targets and what is there, in plan order: all that may have to be computed. */
  pending(plan: Plan.Plan<R>, targets: ReadonlyArray<Cell<R>>): ReadonlyArray<Cell<R>> {
    const open = new Set<Cell<R>>()
    const stack = [...targets]
    while (stack.length > 0) {
      const cell = stack.pop()!
      if (open.has(cell) || this.has(cell)) continue
      open.add(cell)
      stack.push(...inputsOf(cell))
    }
    return open.size === 0 ? [] : plan.cells.filter((cell) => open.has(cell))
  }
}

/** The cells and all that they are made from. */
export const closure = <R>(cells: ReadonlyArray<Cell<R>>): ReadonlySet<Cell<R>> => {
  const reached = new Set(cells)
  // A set that grows while it is walked: it ends when no cell leads to a new one.
  for (const cell of reached) for (const input of inputsOf(cell)) reached.add(input)
  return reached
}

/** Digest lists in the shape that the plan's keys take. */
export const shaped = <R>(
  cell: Cell<R>,
  digests: { readonly [slot: string]: ReadonlyArray<string> },
): Plan.InputDigests => {
  const shaped: Record<string, string | undefined | ReadonlyArray<string>> = {}
  for (const slot of Object.keys(digests))
    shaped[slot] = Array.isArray(cell.inputs[slot]) ? digests[slot] : digests[slot]![0]
  return shaped
}

/** @param forced cells to compute again although they are there */
export const make = <R>(store: Store, plan: Plan.Plan<R>, forced: (cell: Cell<R>) => boolean): Survey<R> => {
  const survey = new Survey<R>(store, forced)
  for (const cell of plan.cells) survey.learn(cell)
  return survey
}
