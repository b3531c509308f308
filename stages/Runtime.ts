/**
 * A model artifact made ready to run: the family's description, its weights by reference, its fake-quantizers, and its
 * tokenizer. The seam between what the cache holds and what the workers compute.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Model as Runnable } from "../src/compute/Model.ts"
import { Pool, WorkerError } from "../src/compute/Pool.ts"
import type * as Render from "../src/compute/Render.ts"
import type * as Tokenize from "../src/compute/Tokenize.ts"
import * as ChatTemplate from "../src/data/ChatTemplate.ts"
import type { Blob } from "../src/engine/Artifact.ts"
import * as Key from "../src/engine/plan/Key.ts"
import { type BlobLost, StageFailure } from "../src/engine/Problem.ts"
import type { Context } from "../src/engine/Stage.ts"
import * as Family from "../src/models/Family.ts"
import { ActivationQuantizer, KvQuantizer, StateQuantizer } from "../src/methods/Method.ts"
import type { Style } from "../src/tasks/Scorer.ts"
import { failing } from "./Failing.ts"
import type * as Model from "./Model.ts"
import * as Plugin from "./Plugin.ts"

const RENDER = new URL("../src/compute/Render.ts", import.meta.url)

export type Failure = BlobLost | StageFailure

export interface Runtime {
  /** Digest of everything that decides the model's numbers, and of nothing else. */
  readonly identity: string
  readonly model: Runnable<Failure>
  /** As in `tasks/Scorer.ts`. */
  readonly lead: (bos: boolean | undefined) => ReadonlyArray<number>
  readonly eos: ReadonlyArray<number>
  /** `rendered`: texts of a chat template, whose commands and special tokens are meant. */
  readonly encode: (
    texts: ReadonlyArray<string>,
    rendered: boolean,
  ) => Effect.Effect<ReadonlyArray<Int32Array>, StageFailure, Pool>
  /** Conversations as the texts that the model continues, by the template of that name. */
  readonly render: (
    conversations: ReadonlyArray<ReadonlyArray<ChatTemplate.Message>>,
    style: Style,
  ) => Effect.Effect<ReadonlyArray<string>, StageFailure, Pool>
  readonly decode: (
    sequences: ReadonlyArray<ReadonlyArray<number>>,
  ) => Effect.Effect<ReadonlyArray<string>, StageFailure, Pool>
}

/** What a worker threw, as the failure of the stage. */
export const worked = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
): Effect.Effect<A, Exclude<E, WorkerError> | StageFailure, R> =>
  Effect.mapError(effect, (error) =>
    error instanceof WorkerError ? new StageFailure({ reason: error.message }) : (error as Exclude<E, WorkerError>),
  )

const decoding = <A>(schema: Schema.Codec<A, any>, value: unknown): Effect.Effect<A, StageFailure> =>
  Effect.mapError(
    Schema.decodeUnknownEffect(schema)(value),
    (error) => new StageFailure({ reason: `the model artifact does not decode: ${String(error.message)}` }),
  )

export const open = Effect.fnUntraced(function* (value: Model.Value, context: Context) {
  const file = yield* Effect.mapError(
    Plugin.path("models", value.family, []),
    ({ reason }) => new StageFailure({ reason }),
  )
  const family = yield* Plugin.load(file, Family.isFamily)
  const config = yield* decoding(family.config as Schema.Codec<unknown, any>, value.config)
  const bytes = (blob: Blob) => Effect.map(context.read(blob), ({ buffer }) => buffer)
  const recipe: Runnable<Failure>["recipe"] = (tensor) =>
    Effect.gen(function* () {
      const stored = value.tensors[tensor]
      if (stored === undefined) return yield* new StageFailure({ reason: `the model has no tensor ${tensor}` })
      const dims = stored.shape
      if ("dtype" in stored) {
        const place = context.locate(stored.data)
        const data = place ? { ...place, bytes: stored.data.bytes } : { buffer: yield* bytes(stored.data) }
        return {
          dims,
          recipe: { kind: "plain", tensor, dtype: stored.dtype, data, transforms: stored.transforms ?? [] },
        }
      }
      const { codes, scales, zeros } = stored
      const [rows, cols] = stored.shape as [number, number]
      return {
        dims,
        recipe: {
          kind: "packed",
          tensor,
          format: Plugin.url("formats", stored.format),
          params: stored.params,
          rows,
          cols,
          codes: yield* bytes(codes),
          scales: yield* bytes(scales),
          zeros: yield* bytes(zeros),
        },
      }
    })
  const { shape } = Family.outline(family, config)
  const pool = yield* Pool
  const { tokenizer } = value
  const files: Tokenize.Files = {
    key: Key.sha256(Key.canonical(tokenizer)),
    files: Object.fromEntries(
      yield* Effect.forEach(Object.entries(tokenizer.files), ([role, blob]) =>
        Effect.map(bytes(blob), (buffer) => [role, buffer] as const),
      ),
    ),
    model: { vocab_size: shape.vocabulary, bos_token_id: tokenizer.bos, eos_token_id: [...tokenizer.eos] },
  }
  const module = new URL("../src/compute/Tokenize.ts", import.meta.url)
  // Templates make prompts, which are told apart by their own text.
  const { chat, coverage: _, ...deciding } = value
  const runtime: Runtime = {
    identity: Key.sha256(Key.canonical(deciding)),
    model: {
      family,
      config,
      shape,
      recipe,
      activations: yield* decoding(Schema.Record(Schema.String, ActivationQuantizer), value.activations),
      keyValue: yield* decoding(Schema.Record(Schema.String, KvQuantizer), value.kv),
      states: yield* decoding(Schema.Record(Schema.String, StateQuantizer), value.state),
    },
    lead: (bos) => {
      const { bos: token, prefix } = tokenizer
      return bos === false ? [] : bos === undefined || prefix.length > 0 || token === null ? prefix : [token]
    },
    eos: tokenizer.eos,
    encode: (texts, rendered) =>
      worked(pool.call<ReadonlyArray<Int32Array>>(module, "encode", { files, texts, rendered })),
    render: (conversations, { date, template: name }) =>
      Effect.gen(function* () {
        const template = yield* failing(ChatTemplate.pick(chat.templates, name))
        const argument: Render.Argument = { template, date, special: chat.special, conversations }
        return yield* worked(pool.call<ReadonlyArray<string>>(RENDER, "render", argument))
      }),
    decode: (sequences) => worked(pool.call<ReadonlyArray<string>>(module, "decode", { files, sequences })),
  }
  return runtime
})
