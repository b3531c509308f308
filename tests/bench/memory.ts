/**
 * Peak resident memory of a checkpoint of 1.1 billion parameters evaluated from its files on 2048 tokens. Beside it what
 * cannot be saved: the process with nothing in it, one block's weights in float32, and the widest moment of a block on
 * every worker.
 */
import * as Effect from "effect/Effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Blocks from "./Blocks.ts"
import * as Folder from "./Folder.ts"
import type { Row } from "./Row.ts"

const WINDOWS = 4
const WINDOW = 512
/** The shape of TinyLlama. */
const config: Blocks.Config = {
  ...Blocks.config,
  hidden_size: 2048,
  intermediate_size: 5632,
  num_hidden_layers: 22,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  vocab_size: 32_000,
  tie_word_embeddings: false,
}

const measure = Effect.fnUntraced(function* (folder: string) {
  const study = Folder.write(folder, config, "F16", { windows: WINDOWS, window: WINDOW })
  const { peakMemory } = yield* Folder.run(folder, study)
  const idle = yield* Folder.idle(folder)
  const row: Row = {
    what: "1.1B, peak resident memory",
    value: peakMemory / 1e9,
    unit: "GB",
    bar: 1.6,
    limit: (idle.peakMemory + Blocks.leastMemory(config, WINDOWS * WINDOW)) / 1e9,
    better: "lower",
  }
  return [row]
})

export const bench = (): Promise<ReadonlyArray<Row>> => {
  const folder = mkdtempSync(join(tmpdir(), "bench-"))
  const clean = Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  return Effect.runPromise(Effect.ensuring(measure(folder), clean))
}
