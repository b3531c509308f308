/** `load` on every kind of bad checkpoint: refused before anything runs, or where the bytes tell, while it runs. */
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readFileSync } from "node:fs"
import { Pool } from "../../src/compute/Pool.ts"
import { Store } from "../../src/engine/store/Store.ts"
import * as Damage from "../support/damage.ts"
import { folder, write } from "../support/folder.ts"
import * as Golden from "../support/golden.ts"
import * as Study from "../support/study.ts"
import * as Tokenizer from "../support/tokenizer.ts"

const services = Layer.merge(Pool.layer(2), Store.layerMemory)
const LOAD = `base: { use: load, source: "dir:model" }`
const f32 = (...values: ReadonlyArray<number>) => new Uint8Array(Float32Array.from(values).buffer)

/** What is wrong is found before anything runs, at the line and column of `source`. */
const PLAN: ReadonlyArray<readonly [string, Parameters<typeof Golden.changed>[1], RegExp]> = [
  [
    "a file cut short",
    { bytes: (b) => b.subarray(0, b.length - 10) },
    /lm_head\.weight|tensor .* of which the file holds/,
  ],
  ["a file of seven bytes", { bytes: (b) => b.subarray(0, 7) }, /has 7 bytes; a safetensors file has at least 8/],
  [
    "a header length that lies",
    { bytes: Damage.length(1n << 40n) },
    /declares a header of 1099511627776 bytes; the format allows/,
  ],
  [
    "a header longer than the file",
    { bytes: Damage.length(1_000_000n) },
    /declares a header of 1000000 bytes but has only/,
  ],
  ["a header that is no JSON", { bytes: (b) => (b.write("X", 8), b) }, /has a header that is not JSON/],
  [
    "offsets that overlap",
    {
      bytes: Damage.header((h) => {
        const { data_offsets: at } = h["model.norm.weight"]
        h["model.norm.weight"].data_offsets = at.map((x: number) => x - 32)
      }),
    },
    /tensor model\.norm\.weight begins at byte \d+ of the file, inside the tensor before it/,
  ],
  [
    "offsets beyond the end",
    { bytes: Damage.header((h) => (h["model.norm.weight"].data_offsets = [1e9, 1e9 + 64])) },
    /model\.norm\.weight ends at byte 1000000064 of the data/,
  ],
  [
    "a missing tensor",
    { tensors: (t) => Golden.without(t, "model.norm.weight") },
    /lacks model\.norm\.weight, which config\.json asks for/,
  ],
  [
    "an extra tensor",
    { tensors: (t) => ({ ...t, "model.extra.weight": t["model.norm.weight"]! }) },
    /has model\.extra\.weight, which the architecture has no place for/,
  ],
  [
    "a misshapen tensor",
    { tensors: (t) => ({ ...t, "model.norm.weight": { dtype: "F32", shape: [2], data: f32(1, 2) } }) },
    /tensor model\.norm\.weight is \[2\]; config\.json makes it \[32\]/,
  ],
  [
    "a dtype that is no weight",
    { tensors: (t) => ({ ...t, "model.norm.weight": { dtype: "BOOL", shape: [32], data: new Uint8Array(32) } }) },
    /tensor model\.norm\.weight is BOOL; that is no type of weights/,
  ],
  [
    "a dtype that does not exist",
    { bytes: Damage.header((h) => (h["model.norm.weight"].dtype = "F12")) },
    /model\.norm\.weight has the dtype "F12"; known: /,
  ],
  [
    "an unknown architecture",
    { config: (c) => ({ ...c, model_type: "lama" }) },
    /unknown architecture: no model 'lama'; did you mean 'llama'\?/,
  ],
  ["no architecture", { config: (c) => Golden.without(c, "model_type") }, /config\.json: has no model_type/],
  [
    "a config value of the wrong type",
    { config: (c) => ({ ...c, hidden_size: "32" }) },
    /config\.json: Expected[^]*hidden_size/,
  ],
  [
    "a config value that is missing",
    { config: (c) => Golden.without(c, "vocab_size") },
    /config\.json: [^]*vocab_size/,
  ],
  [
    "several wrong config values",
    { config: (c) => ({ ...c, hidden_size: 1.5, vocab_size: -1 }) },
    /hidden_size[^]*vocab_size/,
  ],
  [
    "an unknown rope type",
    { config: (c) => ({ ...Golden.without(c, "rope_parameters"), rope_scaling: { rope_type: "spiral", factor: 2 } }) },
    /unknown rope type 'spiral'; known: default, linear, dynamic, llama3/,
  ],
  [
    "a rope type without its factor",
    { config: (c) => ({ ...Golden.without(c, "rope_parameters"), rope_scaling: { type: "linear" } }) },
    /rope type 'linear' needs factor/,
  ],
  [
    "heads that do not divide",
    { config: (c) => ({ ...c, num_key_value_heads: 3 }) },
    /num_attention_heads 4 is not a multiple of num_key_value_heads 3/,
  ],
  ["an odd head size", { config: (c) => ({ ...c, head_dim: 7 }) }, /head size 7 is odd/],
  [
    "another activation function",
    { config: (c) => ({ ...c, hidden_act: "gelu" }) },
    /config\.json: [^]*silu[^]*hidden_act/,
  ],
  ["a config that is no JSON", { files: { "model/config.json": "{" } }, /config\.json: is not JSON/],
]

layer(services, { excludeTestServices: true })("bad checkpoints", (it) => {
  describe("before anything runs", () => {
    for (const [name, changes, message] of PLAN) {
      it.effect(name, () =>
        Effect.gen(function* () {
          const root = yield* Golden.changed("biases", changes)
          const found = yield* Study.mistakes(root, LOAD)
          assert.match(found, message)
          assert.match(found, /^study\.yaml:3:30: /)
        }),
      )
    }
    for (const [name, source, message] of [
      ["no such folder", "dir:nowhere", /'dir:nowhere' does not exist/],
      ["an empty folder", "dir:empty", /no config\.json; expected a folder in the Hugging Face layout/],
      ["a source of no kind", "somewhere", /'somewhere' names no source; write bundled:<name>/],
      ["a folder outside", "dir:../model", /leads out of/],
    ] as const) {
      it.effect(name, () =>
        Effect.gen(function* () {
          const root = yield* folder
          write(root, "empty/x", "")
          assert.match(yield* Study.mistakes(root, `base: { use: load, source: "${source}" }`), message)
        }),
      )
    }
    for (const [name, index, message] of [
      [
        "an index without a shard",
        { "model.norm.weight": "model-00003-of-00003.safetensors" },
        /model-00003-of-00003\.safetensors cannot be read/,
      ],
      [
        "an index that leads elsewhere",
        { "model.norm.weight": "../x.safetensors" },
        /expected the name of a file beside the index/,
      ],
      [
        "an index that names a tensor nowhere",
        { "model.extra": "model-00001-of-00002.safetensors" },
        /model\.extra is said to be in model-00001-of-00002/,
      ],
    ] as const) {
      it.effect(name, () =>
        Effect.gen(function* () {
          const root = yield* folder
          const file = `${Golden.copy("mha", root)}/model.safetensors.index.json`
          const parsed = JSON.parse(readFileSync(file, "utf8"))
          write(
            root,
            "model/model.safetensors.index.json",
            JSON.stringify({ ...parsed, weight_map: { ...parsed.weight_map, ...index } }),
          )
          assert.match(yield* Study.mistakes(root, LOAD), message)
        }),
      )
    }
  })

  describe("while it runs", () => {
    for (const [name, at, bits] of [
      ["NaN", 77, Damage.NAN],
      ["infinity", 1791, Damage.INFINITY],
    ] as const) {
      it.effect(`${name} in a weight: the tensor and the element`, () =>
        Effect.gen(function* () {
          const root = yield* Golden.changed("biases", {
            bytes: Damage.half("model.layers.1.mlp.up_proj.weight", at, bits),
          })
          assert.match(
            yield* Study.failure(root, LOAD, "base"),
            new RegExp(`tensor model\\.layers\\.1\\.mlp\\.up_proj\\.weight holds NaN or infinity at element ${at};`),
          )
        }),
      )
    }
    for (const [name, text, message] of [
      [
        "a token beyond the vocabulary",
        Tokenizer.json({ vocab: { zebra: 64 } }),
        /the tokenizer does not match the vocabulary: zebra has the id 64, the model's vocab_size is 64/,
      ],
      ["a tokenizer that is no JSON", "{", /tokenizer\.json cannot be used/],
    ] as const) {
      it.effect(name, () =>
        Effect.gen(function* () {
          const root = yield* Golden.changed("biases", { files: { "model/tokenizer.json": text } })
          assert.match(yield* Study.failure(root, LOAD, "base"), message)
        }),
      )
    }
  })
})
