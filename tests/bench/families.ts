/**
 * The blocks of every family at one size, as an evaluation runs them: tokens a second beside those that the linears alone
 * would take at the speed of the fastest product of matrices. A few blocks whose linears hold the same number of weights
 * a token meets; dense transformers must reach three quarters of the limit.
 */
import * as Effect from "effect/Effect"
import { availableParallelism } from "node:os"
import { Pool } from "../../src/compute/Pool.ts"
import * as Family from "../../src/models/Family.ts"
import { modules } from "../support/plugins.ts"
import * as Blocks from "./Blocks.ts"
import * as Sized from "./Sized.ts"
import * as Profile from "./Profile.ts"
import type { Row } from "./Row.ts"

const { LENGTH, TOGETHER } = Sized
const ROUNDS = 7

/** `0.91`, `81 %` */
const fraction = (x: number) => x.toFixed(2)
const percent = (x: number) => `${Math.round(100 * x)} %`

const median = (values: ReadonlyArray<number>) => values.toSorted((a, b) => a - b)[values.length >> 1]!

/**
 * Milliseconds of a pass, and of the product just before and after it: both have the same machine, however its speed
 * wanders. The round of the median ratio.
 */
const beside = Effect.fnUntraced(function* <E, R>(
  product: Effect.Effect<unknown, E, R>,
  pass: Effect.Effect<unknown, E, R>,
) {
  const rounds: Array<{ readonly time: number; readonly least: number }> = []
  // The first round opens sessions and touches memory.
  for (let round = 0; round <= ROUNDS; round++) {
    const before = yield* Blocks.timed(product)
    const time = yield* Blocks.timed(pass)
    const after = yield* Blocks.timed(product)
    if (round > 0) rounds.push({ time, least: (before + after) / 2 })
  }
  const middle = median(rounds.map(({ least, time }) => least / time))
  return rounds.find(({ least, time }) => least / time === middle)!
})

const measure = Effect.fnUntraced(function* (name: string, family: Family.Family<any>) {
  const { size } = yield* Pool
  const { config } = Sized.config(name, family)
  const model = Blocks.modelOf(family, config, { activations: {}, keyValue: {} })
  const { layers } = model.shape
  const pass = (batches: number) => Sized.pass(model, batches)
  const product = yield* Blocks.products(TOGETHER * LENGTH, 2048, 1)
  const { least, time } = yield* beside(product.pass, yield* pass(size))
  const spent = yield* Profile.shares(Effect.flatten(pass(1)))

  const { attention, linears } = Blocks.operationsOf(family, config, LENGTH, Sized.MET)
  const tokens = size * TOGETHER * LENGTH
  const rate = (milliseconds: number) => (tokens * 1000) / milliseconds
  /** Milliseconds at the speed of the product. */
  const needed = (operations: number) => (tokens * layers * operations * least) / product.operations
  const limit = rate(needed(linears))
  const dense = Family.heads(model.shape) !== undefined && family.experts === undefined
  // Where nothing is asked of a family, its scan or its routing is what one wants to see.
  const shown = spent
    .filter(([, share]) => share >= (dense ? 0.025 : 0.005))
    .map(([op, share]) => `${op} ${percent(share)}`)
  const row: Row = {
    what: `${name}, ${layers} blocks`,
    value: rate(time),
    unit: "tokens/s",
    bar: dense ? 0.75 * limit : undefined,
    limit,
    note: `${attention === 0 ? "" : `with attention ${fraction(needed(linears + attention) / time)}; `}${shown.join(", ")}`,
  }
  return row
})

export const bench = (): Promise<ReadonlyArray<Row>> =>
  Effect.runPromise(
    Effect.flatMap(
      Effect.promise(() => modules("src/models")),
      Effect.forEach(({ name, value }) =>
        // Threads of its own: what the sessions of one family keep is no burden to the next.
        Effect.provide(measure(name, value as Family.Family<any>), Pool.layer(availableParallelism())),
      ),
    ),
  )
