/**
 * The decoder block as an evaluation runs it, one ONNX Runtime thread in each worker, batches in parallel: at least four
 * fifths of the fastest product of matrices in its linears, over the time of the whole block; a little less with
 * activations and KV cache quantized on the fly.
 */
import * as Effect from "effect/Effect"
import { availableParallelism } from "node:os"
import { Pool } from "../../src/compute/Pool.ts"
import * as Blocks from "./Blocks.ts"
import type { Row } from "./Row.ts"

const LENGTH = 512
/** Sequences that go through a block together. */
const TOGETHER = 4
const ROUNDS = 6

/** GFLOP/s */
const rate = (operations: number, milliseconds: number) => operations / milliseconds / 1e6

const measure = Effect.gen(function* () {
  const { size } = yield* Pool
  const config = { ...Blocks.config, num_hidden_layers: 4, vocab_size: 1024 }
  const tokens = Blocks.sequences(2 * TOGETHER * size, LENGTH, config.vocab_size)
  const pass = (quantizers: Parameters<typeof Blocks.model>[1]) =>
    Blocks.pass(Blocks.model(config, quantizers), tokens, TOGETHER * LENGTH)
  const product = yield* Blocks.products(TOGETHER * LENGTH, 2048, 4)
  const [before, plain, between, quantized] = yield* Blocks.race(ROUNDS, [
    product.pass,
    yield* pass({ activations: {}, keyValue: {} }),
    product.pass,
    yield* pass(Blocks.a8kv4(config)),
  ])
  const { attention, linears } = Blocks.operations(config, LENGTH)
  const work = tokens.length * LENGTH * config.num_hidden_layers
  const limit = rate(product.operations, Math.min(before!, between!))
  const row = (what: string, operations: number, time: number, bar: number): Row => ({
    what,
    value: rate(work * operations, time),
    unit: "GFLOP/s",
    bar: bar * limit,
    limit,
  })
  return [
    row("block, its linears", linears, plain!, 0.8),
    row("block, with attention", linears + attention, plain!, 0.8),
    row("block w4a8kv4, its linears", linears, quantized!, 0.72),
    row("block w4a8kv4, with attention", linears + attention, quantized!, 0.72),
  ]
})

export const bench = (): Promise<ReadonlyArray<Row>> =>
  Effect.runPromise(Effect.provide(measure, Pool.layer(availableParallelism())))
