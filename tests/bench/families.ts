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
const ROUNDS = 5

/** `0.91`, `81 %` */
const fraction = (x: number) => x.toFixed(2)
const percent = (x: number) => `${Math.round(100 * x)} %`

const measure = Effect.fnUntraced(function* (name: string, family: Family.Family<any>) {
  const { size } = yield* Pool
  const { config } = Sized.config(name, family)
  const model = Blocks.modelOf(family, config, { activations: {}, keyValue: {} })
  const { layers } = model.shape
  const pass = (batches: number) => Sized.pass(model, batches)
  const product = yield* Blocks.products(TOGETHER * LENGTH, 2048, 1)
  const [fastest, time] = yield* Blocks.race(ROUNDS, [product.pass, yield* pass(size)])
  const spent = yield* Profile.shares(Effect.flatten(pass(1)))

  const { attention, linears } = Blocks.operationsOf(family, config, LENGTH, Sized.MET)
  const tokens = size * TOGETHER * LENGTH
  const rate = (milliseconds: number) => (tokens * 1000) / milliseconds
  /** Milliseconds at the speed of the product. */
  const needed = (operations: number) => (tokens * layers * operations * fastest!) / product.operations
  const limit = rate(needed(linears))
  const dense = Family.heads(model.shape) !== undefined && family.experts === undefined
  // Where nothing is asked of a family, its scan or its routing is what one wants to see.
  const shown = spent
    .filter(([, share]) => share >= (dense ? 0.025 : 0.005))
    .map(([op, share]) => `${op} ${percent(share)}`)
  const row: Row = {
    what: `${name}, ${layers} blocks`,
    value: rate(time!),
    unit: "tokens/s",
    bar: dense ? 0.75 * limit : undefined,
    limit,
    note: `${attention === 0 ? "" : `with attention ${fraction(needed(linears + attention) / time!)}; `}${shown.join(", ")}`,
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
