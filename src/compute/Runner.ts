/** A model with its graphs drawn, its position tables made, and its weights held or streamed. */
import * as Effect from "effect/Effect"
import * as Family from "../models/Family.ts"
import * as Model from "./Model.ts"
import { Pool, type WorkerError } from "./Pool.ts"
import * as Slab from "./Slab.ts"

/** By graph input. */
export type Weights = { readonly [input: string]: Slab.Slab }

/** A block or an expert with its graph. */
export interface Step {
  readonly unit: Family.Unit
  readonly program: Model.Program
}

export interface Runner<E> {
  readonly model: Model.Model<E>
  /** Are all weights kept in memory? */
  readonly resident: boolean
  readonly embedding: Model.Program
  /** In the order in which they run. */
  readonly steps: ReadonlyArray<Step>
  /** A step's weights. Held for good if the runner is resident, else loaded at each call. */
  readonly weights: (step: Step) => Effect.Effect<Weights, E | WorkerError, Pool>
  /** The embedding's tables, of which the rows of these tokens are needed. */
  readonly embeddingWeights: (tokens: ReadonlyArray<Int32Array>) => Effect.Effect<Weights, E | WorkerError, Pool>
  /** To be called once no pass uses these weights any longer. */
  readonly done: (weights: Weights) => Effect.Effect<void, never, Pool>
  /** Position tables for at least this many positions, by graph input. */
  readonly tables: (length: number) => { readonly [input: string]: Slab.Slab }
}

/** Tables are made for a multiple of this many positions, so that decoding does not make one per step. */
const TABLE = 256

/** Sequences of different keys need different position tables. */
export const tableKey =
  <E>({ config, family }: Model.Model<E>) =>
  (length: number): number =>
    family.tableKey?.(config, length) ?? 0

/** @param draw the hooks of a unit: those of the model, or others that watch it. */
export const make = <E>(
  model: Model.Model<E>,
  resident: boolean,
  draw: (unit: Family.Unit) => Model.Program = (unit) => Model.unit(model, unit, Model.unitHooks(model, unit)),
): Runner<E> => {
  const programs = new Map<string, Model.Program>()
  const steps = Family.units(model.family, model.config)
    // A test may ask for the first layers alone.
    .filter(({ layer }) => layer < model.shape.layers)
    .map((unit): Step => {
      const drawn = draw(unit)
      // Equal graphs are one: its session is opened once.
      if (!programs.has(drawn.key)) programs.set(drawn.key, drawn)
      return { unit, program: programs.get(drawn.key)! }
    })
  const embedding = Model.embedding(model)
  const held = new Map<string, Weights>()
  const weights = (program: Model.Program, prefix: string, rows?: Int32Array) =>
    Effect.gen(function* () {
      const known = held.get(prefix)
      if (known) return known
      const looked = resident || rows === undefined ? undefined : { up: program.tables, rows }
      const loaded = yield* Model.load(model, program.weights, prefix, looked)
      if (resident) held.set(prefix, loaded)
      return loaded
    })
  const made = new Map<number, { readonly [input: string]: Slab.Slab }>()
  const tables = (length: number) => {
    const { config, family } = model
    const rounded = Math.ceil(length / TABLE) * TABLE
    const rows = tableKey(model)(rounded) === tableKey(model)(length) ? rounded : length
    const known = made.get(rows)
    if (known) return known
    const slabs = Object.fromEntries(
      Object.entries(family.tables?.(config, rows) ?? {}).map(([input, { columns, values }]) => [
        input,
        Slab.of([rows, columns], values),
      ]),
    )
    made.set(rows, slabs)
    return slabs
  }
  return {
    model,
    resident,
    tables,
    embedding,
    steps,
    weights: ({ program, unit }) => weights(program, unit.tensors),
    embeddingWeights: (tokens) => weights(embedding, "", distinct(tokens)),
    done: (weights) => (resident ? Effect.void : Effect.map(Pool, ({ memory }) => memory.giveBack(weights))),
  }
}

const distinct = (tokens: ReadonlyArray<Int32Array>): Int32Array => {
  const seen = new Set<number>()
  for (const some of tokens) for (const token of some) seen.add(token)
  return Int32Array.from(seen).toSorted()
}
