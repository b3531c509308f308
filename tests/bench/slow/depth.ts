/**
 * `npm run bench:depth [-- layers …]`: peak resident memory of a checkpoint of the shape of Llama 7B, cut to so many of
 * its 32 layers, evaluated from its files on 2048 tokens. Memory must hold two blocks, whatever the depth: one in use,
 * one on its way. The weights are zeros in files that take no room on the disk; nothing knows that but the disk.
 */
import * as Effect from "effect/Effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Blocks from "../Blocks.ts"
import * as Folder from "../Folder.ts"
import * as Table from "../Table.ts"

const WINDOWS = 4
const WINDOW = 512
const config: Blocks.Config = {
  ...Blocks.config,
  hidden_size: 4096,
  intermediate_size: 11_008,
  num_attention_heads: 32,
  num_key_value_heads: 32,
  vocab_size: 32_000,
  tie_word_embeddings: false,
}

const measure = Effect.fnUntraced(function* (folder: string, layers: number) {
  const cut = { ...config, num_hidden_layers: layers }
  const study = Folder.writeHoles(folder, cut, { windows: WINDOWS, window: WINDOW })
  const { peakMemory, seconds } = yield* Folder.run(folder, study)
  const idle = yield* Folder.idle(folder)
  Table.print({
    what: `7B, ${layers} layers, peak memory`,
    value: peakMemory / 1e9,
    unit: "GB",
    bar: 3,
    limit: (idle.peakMemory + Blocks.leastMemory(cut, WINDOWS * WINDOW)) / 1e9,
    better: "lower",
    note: `${seconds.toFixed(0)} s from its files to its perplexity`,
  })
})

const within = (layers: number) => {
  const folder = mkdtempSync(join(tmpdir(), "depth-"))
  const clean = Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  return Effect.ensuring(measure(folder, layers), clean)
}

const asked = process.argv.slice(2).map(Number)
Table.begin()
for (const layers of asked.length > 0 ? asked : [4, 8, 16, 32]) await Effect.runPromise(within(layers))
