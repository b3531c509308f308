/** The work of `load`: every tensor is read once, for its digest and for values that are not finite. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { readFileSync, statSync } from "node:fs"
import { Pool } from "../src/compute/Pool.ts"
import * as Checkpoint from "../src/data/Checkpoint.ts"
import * as Safetensors from "../src/data/Safetensors.ts"
import * as Tokenizer from "../src/data/Tokenizer.ts"
import type { Context } from "../src/engine/Stage.ts"
import type { Dtype } from "../src/math/Half.ts"
import { failing } from "./Failing.ts"
import { describe } from "./Architecture.ts"
import type * as Model from "./Model.ts"

export const load = Effect.fnUntraced(function* (context: Context) {
  const { sources } = context
  const pool = yield* Pool
  const { decoded, family, file, name, object, outline } = yield* failing(describe(sources["config"]!.path))
  const weights = (sources["index"] ?? sources["weights"]!).path
  const catalog = yield* failing(Safetensors.read(weights))
  const entries = yield* failing(Checkpoint.match(weights, catalog, outline))

  const digests = new Map(Object.values(sources).map(({ digest, path }) => [path, digest]))
  const within = (path: string, offset: number) => ({ file: digests.get(path)!, offset })
  let done = 0
  const tensors = yield* Effect.forEach(
    entries,
    Effect.fnUntraced(function* ([tensor, { bytes, dtype, file: path, offset, shape }]) {
      const argument = { path, offset, bytes, tensor, dtype }
      const module = new URL("../src/compute/Inspect.ts", import.meta.url)
      const digest = yield* failing(pool.call<string>(module, "inspect", argument))
      yield* context.progress(++done, entries.size, "tensors")
      const data = { blob: digest, bytes, within: within(path, offset) }
      const transposed = outline.transposed.has(tensor)
      const plain = { dtype: dtype as Dtype, shape: transposed ? shape.toReversed() : [...shape], data }
      return [tensor, { ...plain, ...(transposed && { transposed }) }] as const
    }),
    { concurrency: pool.size },
  )

  const whole = ({ digest, path }: { readonly path: string; readonly digest: string }) => ({
    blob: digest,
    bytes: statSync(path).size,
    within: { file: digest, offset: 0 },
  })
  const tokenizerConfig = sources["tokenizerConfig"]
  const tokenizer = yield* failing(
    Tokenizer.make(
      {
        tokenizer: readFileSync(sources["tokenizer"]!.path),
        config: tokenizerConfig && readFileSync(tokenizerConfig.path),
      },
      tokensOf(object, outline.shape.vocabulary),
    ),
  )
  const value: Model.Value = {
    family: name,
    code: { [`models/${name}`]: yield* context.fingerprint(file) },
    config: (yield* failing(Schema.encodeUnknownEffect(family.config)(decoded))) as Model.Value["config"],
    tokenizer: {
      file: whole(sources["tokenizer"]!),
      ...(tokenizerConfig && { config: whole(tokenizerConfig) }),
      bos: tokenizer.bos,
      eos: [...tokenizer.eos],
    },
    tensors: Object.fromEntries(tensors),
    activations: {},
    kv: {},
    coverage: [],
  }
  return value
})

/** What config.json says of its tokens, where it says it in the usual way. */
const tokensOf = (config: { readonly [key: string]: unknown }, vocabulary: number): Tokenizer.ModelTokens => {
  const { bos_token_id: bos, eos_token_id: eos } = config
  const isId = (u: unknown): u is number => typeof u === "number" && Number.isInteger(u) && u >= 0
  return {
    vocab_size: vocabulary,
    ...(isId(bos) && { bos_token_id: bos }),
    ...(isId(eos) && { eos_token_id: eos }),
    ...(Array.isArray(eos) && eos.every(isId) && { eos_token_id: eos }),
  }
}
