/**
 * A checkpoint of 135 million parameters from its files to its perplexity, as the command line does it with an empty
 * cache: at least three quarters of the speed of the blocks and the head alone.
 */
import * as Effect from "effect/Effect"
import { mkdtempSync, rmSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { join } from "node:path"
import { Pool } from "../../src/compute/Pool.ts"
import * as Scoring from "../../src/compute/Scoring.ts"
import * as Slab from "../../src/compute/Slab.ts"
import * as Blocks from "./Blocks.ts"
import * as Folder from "./Folder.ts"
import type { Row } from "./Row.ts"

const WINDOWS = 16
const WINDOW = 512
/** Blocks that are timed. */
const DEPTH = 3
const ROUNDS = 3

const measure = Effect.fnUntraced(function* (folder: string) {
  const study = Folder.write(folder, Blocks.config, "F32", { windows: WINDOWS, window: WINDOW })
  const model = Blocks.model({ ...Blocks.config, num_hidden_layers: DEPTH }, { activations: {}, keyValue: {} })
  const { hidden, layers, vocabulary } = model.shape
  const tokens = Blocks.sequences(WINDOWS, WINDOW, vocabulary)
  const rows = Slab.make("float32", [WINDOWS * WINDOW, hidden])
  Blocks.noise(Slab.floats(rows), 5n)
  const targets = new Int32Array(WINDOWS * WINDOW)

  const alone = [yield* Blocks.pass(model, tokens, 2048), Scoring.scoreRows(model, rows, targets, undefined)]
  const both = [...alone, Folder.run(folder, study)]
  const [blocks, head, whole] = yield* Blocks.race(ROUNDS, both)
  const milliseconds = (blocks! / layers) * Blocks.config.num_hidden_layers + head!
  /** Tokens a second. */
  const rate = (time: number) => (WINDOWS * WINDOW * 1000) / time
  const limit = rate(milliseconds)
  const row: Row = { what: "135M, files to score", value: rate(whole!), unit: "tokens/s", bar: 0.75 * limit, limit }
  return [row]
})

export const bench = (): Promise<ReadonlyArray<Row>> => {
  const folder = mkdtempSync(join(tmpdir(), "bench-"))
  return Effect.runPromise(
    measure(folder).pipe(
      Effect.provide(Pool.layer(availableParallelism())),
      Effect.ensuring(Effect.sync(() => rmSync(folder, { recursive: true, force: true }))),
    ),
  )
}
