/** A checkpoint folder as `SlowLlama.ts` takes it. */
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Checkpoint from "../../src/data/Checkpoint.ts"
import * as Safetensors from "../../src/data/Safetensors.ts"
import * as TensorFile from "../../src/data/TensorFile.ts"
import type { Config, Weights } from "./SlowLlama.ts"

export const open = Effect.fnUntraced(function* (folder: string) {
  const catalog = yield* Safetensors.read(yield* Checkpoint.weights(yield* Checkpoint.listing(folder), folder))
  const raw = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"))
  const read = (name: string) => {
    const entry = catalog.get(name)!
    const out = new Float32Array(entry.shape.reduce((n, d) => n * d, 1))
    TensorFile.readFloats(entry, 0, out.length, out)
    return [...out]
  }
  const matrices = new Map<string, ReadonlyArray<ReadonlyArray<number>>>()
  const weights: Weights = {
    has: (name) => catalog.has(name),
    vector: read,
    matrix: (name) => {
      const known = matrices.get(name)
      if (known) return known
      const values = read(name)
      const columns = catalog.get(name)!.shape[1]!
      const rows = Array.from({ length: values.length / columns }, (_, r) =>
        values.slice(r * columns, (r + 1) * columns),
      )
      matrices.set(name, rows)
      return rows
    },
  }
  const query: number = raw.num_attention_heads
  const config: Config = {
    layers: raw.num_hidden_layers,
    heads: { query, keyValue: raw.num_key_value_heads ?? query, dim: raw.head_dim ?? raw.hidden_size / query },
    epsilon: raw.rms_norm_eps,
    theta: raw.rope_theta ?? raw.rope_parameters?.rope_theta ?? 10_000,
    tied: raw.tie_word_embeddings,
  }
  return { config, weights }
})
