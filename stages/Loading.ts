/** The work of `load`: every tensor is read once, for its digest and for values that are not finite. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { readFileSync, statSync } from "node:fs"
import { Pool } from "../src/compute/Pool.ts"
import * as Checkpoint from "../src/data/Checkpoint.ts"
import * as Tokenizer from "../src/data/Tokenizer.ts"
import { StageFailure } from "../src/engine/Problem.ts"
import type { Blob } from "../src/engine/Artifact.ts"
import type { Context } from "../src/engine/Stage.ts"
import { failing } from "./Failing.ts"
import { describe, type Paths, templates } from "./Architecture.ts"
import * as Gguf from "./Gguf.ts"
import type * as Model from "./Model.ts"

export const load = Effect.fnUntraced(function* (context: Context) {
  const { sources } = context
  const pool = yield* Pool
  const paths = Object.fromEntries(Object.entries(sources).map(([slot, { path }]) => [slot, path]))
  const { decoded, family, file, name, object, outline, ...checkpoint } = yield* failing(describe(paths))
  const entries = yield* failing(Checkpoint.match(checkpoint.weights, checkpoint.catalog, outline))

  const digests = new Map(Object.values(sources).map(({ digest, path }) => [path, digest]))
  const within = (path: string, offset: number) => ({ file: digests.get(path)!, offset })
  const inspect = (tensor: string, { bytes, dtype, file: path, offset }: Omit<Checkpoint.Entry, "shape">) =>
    failing(
      pool.call<string>(new URL("../src/compute/Inspect.ts", import.meta.url), "inspect", {
        path,
        offset,
        bytes,
        tensor,
        dtype,
      }),
    )
  let done = 0
  const tensors = yield* Effect.forEach(
    entries,
    Effect.fnUntraced(function* ([tensor, stored]) {
      const { bytes, dtype, file: path, offset, shape, transforms } = stored
      const digest = yield* inspect(tensor, stored)
      yield* context.progress(++done, entries.size, "tensors")
      const data = { blob: digest, bytes, within: within(path, offset) }
      return [tensor, { dtype, shape: [...shape], data, ...(transforms.length > 0 && { transforms }) }] as const
    }),
    { concurrency: pool.size },
  )

  // A head that is stored although it is tied must be the table that it is tied to: else it is another model.
  const values = new Map(tensors)
  for (const { layer, tensor } of outline.sites.filter(({ kind }) => kind === "linear")) {
    const table = values.get(tensor)
    const isTied = outline.sites.some((site) => site.kind === "embedding" && site.tensor === tensor)
    if (layer !== undefined || table === undefined || !isTied) continue
    for (const copy of Checkpoint.copies(checkpoint.catalog, outline, tensor)) {
      if (copy.dtype === table.dtype && (yield* inspect(copy.tensor, copy)) === table.data.blob) continue
      const reason = `${checkpoint.weights}: tensor ${copy.tensor} differs from ${tensor}, to which the config ties it; if the head is its own, set tie_word_embeddings to false in config.json`
      return yield* new StageFailure({ reason })
    }
  }

  const whole = ({ digest, path }: { readonly path: string; readonly digest: string }) => ({
    blob: digest,
    bytes: statSync(path).size,
    within: { file: digest, offset: 0 },
  })
  const files = yield* tokenizerFiles(paths)
  const generation =
    paths["gguf"] !== undefined
      ? yield* failing(Gguf.generation(paths["gguf"]))
      : paths["generation"] === undefined
        ? {}
        : yield* failing(Checkpoint.readObject(paths["generation"]))
  const tokens = tokensOf(object, generation, outline.shape.vocabulary)
  const tokenizer = yield* failing(Tokenizer.make(files, tokens))
  const kept: { [role in Checkpoint.TokenizerRole]?: Blob } = {}
  for (const role of Checkpoint.TOKENIZER_ROLES) {
    const source = sources[`tokenizer.${role}`]
    if (source !== undefined) kept[role] = whole(source)
    else if (files[role] !== undefined) kept[role] = yield* context.put(files[role])
  }
  const value: Model.Value = {
    family: name,
    code: { [`models/${name}`]: yield* context.fingerprint(file) },
    config: (yield* failing(Schema.encodeUnknownEffect(family.config)(decoded))) as Model.Value["config"],
    tokenizer: { files: kept, bos: tokenizer.bos, eos: [...tokenizer.eos], prefix: [...tokenizer.prefix] },
    chat: { templates: yield* failing(templates(paths, family, decoded)), special: tokenizer.special },
    tensors: Object.fromEntries(tensors),
    activations: {},
    kv: {},
    state: {},
    coverage: [],
  }
  return value
})

/** The tokenizer's files as bytes; those of a GGUF file are made from it. */
const tokenizerFiles = (paths: Paths): Effect.Effect<Tokenizer.Files, StageFailure> =>
  Effect.gen(function* () {
    if (paths["gguf"] !== undefined) return yield* failing(Gguf.tokenizer(paths["gguf"]))
    const found = Checkpoint.TOKENIZER_ROLES.map((role) => [role, paths[`tokenizer.${role}`]] as const)
    return Object.fromEntries(
      found.flatMap(([role, path]) => (path === undefined ? [] : [[role, readFileSync(path)]])),
    ) as Tokenizer.Files
  })

type Fields = { readonly [key: string]: unknown }

/**
 * What config.json says of its tokens, where it says it in the usual way. What ends a text, generation_config.json knows
 * better: models tuned on conversations end a turn with a token of its own.
 */
const tokensOf = (config: Fields, generation: Fields, vocabulary: number): Tokenizer.ModelTokens => {
  const { bos_token_id: bos } = config
  const eos = generation["eos_token_id"] ?? config["eos_token_id"]
  const isId = (u: unknown): u is number => typeof u === "number" && Number.isInteger(u) && u >= 0
  return {
    vocab_size: vocabulary,
    ...(isId(bos) && { bos_token_id: bos }),
    ...(isId(eos) && { eos_token_id: eos }),
    ...(Array.isArray(eos) && eos.every(isId) && { eos_token_id: eos }),
  }
}
