/**
 * GGUF files of every family that llama.cpp knows, against the checkpoints they were converted from
 * (tests/reference/gguf_checkpoints.py).
 */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Batch from "../../src/compute/Batch.ts"
import { expand } from "../../src/compute/Expand.ts"
import * as Forward from "../../src/compute/Forward.ts"
import * as Model from "../../src/compute/Model.ts"
import { Pool } from "../../src/compute/Pool.ts"
import * as Runner from "../../src/compute/Runner.ts"
import * as Slab from "../../src/compute/Slab.ts"
import * as Checkpoint from "../../src/data/Checkpoint.ts"
import * as GgufFile from "../../src/data/Gguf.ts"
import * as Tokenizer from "../../src/data/Tokenizer.ts"
import type { Family } from "../../src/models/Family.ts"
import gemma2 from "../../src/models/gemma2.ts"
import gemma3 from "../../src/models/gemma3_text.ts"
import llama from "../../src/models/llama.ts"
import phi from "../../src/models/phi.ts"
import * as Architecture from "../../stages/Architecture.ts"
import * as Gguf from "../../stages/Gguf.ts"
import { tensors } from "../support/checkpoint.ts"
import { folder, write } from "../support/folder.ts"
import * as Bytes from "../support/gguf.ts"
import { modules } from "../support/plugins.ts"

const golden = fileURLToPath(new URL("../golden/", import.meta.url))
const path = (name: string) => join(golden, "gguf", `${name}.gguf`)

interface File {
  readonly checkpoint: string
  /** What config.json would have to say to mean what the file means. */
  readonly says: object
  /** Of a value, as a fraction of the tensor's largest; zero where nothing is computed on the way. */
  readonly tolerance: number
}
const files: { readonly [name: string]: File } = JSON.parse(
  readFileSync(join(golden, "gguf", "checkpoints.json"), "utf8"),
)

/** A checkpoint as a runnable model. */
const open = Effect.fnUntraced(function* (paths: Architecture.Paths) {
  const { catalog, decoded, family, name, outline, weights } = yield* Architecture.describe(paths)
  const entries = yield* Checkpoint.match(weights, catalog, outline)
  const recipe = (tensor: string) => {
    const { bytes, dtype, file, offset, shape, transforms } = entries.get(tensor)!
    return {
      dims: shape,
      recipe: { kind: "plain" as const, tensor, dtype, data: { path: file, offset, bytes }, transforms },
    }
  }
  const model: Model.Model<never> = {
    family,
    config: decoded,
    shape: outline.shape,
    activations: {},
    keyValue: {},
    recipe: (tensor) => Effect.succeed(recipe(tensor)),
  }
  const values = Effect.fnUntraced(function* (tensor: string) {
    const { dims, recipe: found } = recipe(tensor)
    const out = Slab.make("float32", dims)
    yield* Effect.promise(() => expand({ recipe: found, out }))
    return Slab.floats(out)
  })
  return { name, outline, model, values, tensors: [...entries.keys()] }
})

/** The checkpoint that a file was made of. */
const original = Effect.fnUntraced(function* ({ checkpoint, says }: File) {
  const from = join(golden, "families", checkpoint)
  const config = { ...JSON.parse(readFileSync(join(from, "config.json"), "utf8")), ...says }
  const index = join(from, "model.safetensors.index.json")
  const weights = existsSync(index) ? { index } : { weights: join(from, "model.safetensors") }
  return yield* open({ config: write(yield* folder, "config.json", JSON.stringify(config)), ...weights })
})

/** Largest difference, as a fraction of the largest expected magnitude. */
const worst = (actual: Float32Array, expected: Float32Array): number => {
  assert.strictEqual(actual.length, expected.length)
  const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
  const difference = actual.reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i]!)), 0)
  return difference === 0 ? 0 : difference / largest
}

const logits = Effect.fnUntraced(function* (model: Model.Model<never>, tokens: Int32Array) {
  const groups = Batch.batches([tokens.length], tokens.length, Runner.tableKey(model))
  const [hidden] = yield* Forward.prefill(Runner.make(model, false), [tokens], groups, undefined, () => Effect.void)
  const head = Model.heading(model)
  const out = Slab.make("float32", [tokens.length, model.shape.vocabulary])
  const rows = Slab.of([tokens.length, model.shape.hidden], Slab.floats(hidden!))
  yield* Model.run(head, { ...(yield* Model.load(model, head.weights, "")), hidden: rows }, { logits: out })
  return Slab.floats(out)
})

const families = (await modules("src/models")).map(({ name, value }) => ({ name, family: value as Family<unknown> }))

it("every family that reads such files has one", () => {
  const readable = families.flatMap(({ family, name }) => (family.gguf === undefined ? [] : [name]))
  const tested = new Set(Object.values(files).map(({ checkpoint }) => checkpoint.split("/")[0]!))
  // Mistral's files say that they are Llama's.
  assert.deepStrictEqual([...tested].toSorted(), [...readable, "mistral"].toSorted())
})

layer(Pool.layer(2), { excludeTestServices: true })("as the checkpoint it was made of", (it) => {
  for (const [name, file] of Object.entries(files)) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const expected = yield* original(file)
        const found = yield* open({ gguf: path(name) })
        assert.strictEqual(found.name, expected.name === "mistral" ? "llama" : expected.name)
        const { catalog, shape, sites, states, transposed } = found.outline
        assert.deepStrictEqual(
          { catalog, shape, sites, states, transposed },
          {
            catalog: expected.outline.catalog,
            shape: expected.outline.shape,
            sites: expected.outline.sites,
            states: expected.outline.states,
            transposed: expected.outline.transposed,
          },
        )
        assert.deepStrictEqual(found.tensors, expected.tensors)
        for (const tensor of expected.tensors) {
          const [actual, wanted] = [yield* found.values(tensor), yield* expected.values(tensor)]
          assert.isTrue(actual.every(Number.isFinite), tensor)
          assert.isAtMost(worst(actual, wanted), file.tolerance, tensor)
        }
        if (file.tolerance > 1e-5) return
        const read = yield* tensors(join(golden, "families", file.checkpoint, "golden.safetensors"))
        const tokens = Int32Array.from(read("tokens").data.slice(0, 40))
        assert.isBelow(worst(yield* logits(found.model, tokens), yield* logits(expected.model, tokens)), 1e-5)
      }),
    )

    it.effect(`${name}: its tokenizer`, () =>
      Effect.gen(function* () {
        const { outline } = yield* Architecture.describe({ gguf: path(name) })
        const tokenizer = yield* Tokenizer.make(yield* Gguf.tokenizer(path(name)), {
          vocab_size: outline.shape.vocabulary,
        })
        assert.strictEqual(tokenizer.bos, 1)
        assert.deepStrictEqual([...(yield* tokenizer.encode("the"))], [5])
      }),
    )
  }
})

describe("keys that some files have and others lack", () => {
  const read = (name: string, family: Family<any>, changes: { readonly [key: string]: unknown }) =>
    Effect.gen(function* () {
      const { catalog, metadata } = yield* Effect.orDie(GgufFile.read(path(name)))
      const changed = new Map<string, unknown>([...metadata, ...Object.entries(changes)])
      for (const [key, value] of changed) if (value === undefined) changed.delete(key)
      const shapes = new Map([...catalog.values()].map(({ shape, tensor }) => [tensor, shape]))
      return yield* Effect.try({
        try: () => family.gguf!.config(changed, () => undefined, shapes),
        catch: (cause) => cause as Error,
      })
    })

  it.effect("the window of Gemma 2 and its caps", () =>
    Effect.gen(function* () {
      const bare = yield* read("gemma2", gemma2, {
        "gemma2.attention.sliding_window": undefined,
        "gemma2.attn_logit_softcapping": undefined,
        "gemma2.final_logit_softcapping": undefined,
      })
      assert.deepInclude(bare, { sliding_window: 4096, attn_logit_softcapping: 50, final_logit_softcapping: 30 })
      assert.deepInclude(bare, { query_pre_attn_scalar: 16, layer_types: ["sliding_attention", "full_attention"] })
      // Of the 27B: 32 / 4.
      assert.deepInclude(yield* read("gemma2", gemma2, { "gemma2.block_count": 46 }), { query_pre_attn_scalar: 8 })
    }),
  )

  it.effect("the layers of Gemma 3 that slide, and their base", () =>
    Effect.gen(function* () {
      const [sliding, full] = ["sliding_attention", "full_attention"]
      const pattern = "gemma3.attention.sliding_window_pattern"
      assert.deepInclude(yield* read("gemma3", gemma3, { [pattern]: [true, false, true] }), {
        layer_types: [sliding, full, sliding],
      })
      assert.deepInclude(yield* read("gemma3", gemma3, { [pattern]: 3 }), { layer_types: [sliding, sliding, full] })
      const own = yield* read("gemma3", gemma3, {
        "gemma3.rope.freq_base_swa": 5000,
        "gemma3.attention.sliding_window": undefined,
      })
      assert.deepInclude(own, { rope_theta: 50_000, rope_local_base_freq: 5000, sliding_window: null })
      const error = yield* Effect.flip(read("gemma3", gemma3, { "gemma3.rope.freq_base": undefined }))
      assert.strictEqual(error.message, "the key gemma3.rope.freq_base is missing")
    }),
  )

  it.effect("rotary settings", () =>
    Effect.gen(function* () {
      const linear = { rope_theta: 10_000, rope_scaling: { rope_type: "linear", factor: 2 } }
      const none = { "llama.rope.scaling.type": undefined, "llama.rope.scaling.factor": undefined }
      assert.deepInclude(yield* read("llama-linear", llama, { ...none, "llama.rope.scale_linear": 2 }), linear)
      assert.notProperty(yield* read("llama-linear", llama, none), "rope_scaling")
      const yarn = {
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.original_context_length": 64,
        "llama.rope.scaling.yarn_beta_fast": 16,
        "llama.rope.scaling.attn_factor": 1,
        "llama.rope.freq_base": 500_000,
      }
      assert.deepInclude(yield* read("llama-linear", llama, yarn), {
        rope_theta: 500_000,
        rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 64, beta_fast: 16 },
      })
      // 26 of 46 channels: the quotient times 46 is a little less than 26.
      const odd = yield* read("phi2", phi, { "phi2.embedding_length": 92, "phi2.rope.dimension_count": 26 })
      assert.strictEqual(Math.trunc(46 * (26 / 46)), 25)
      assert.strictEqual(Math.trunc(46 * (odd["partial_rotary_factor"] as number)), 26)
    }),
  )

  it.effect("numbers of heads that differ by layer", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        read("llama-biases", llama, { "llama.attention.head_count_kv": Uint32Array.of(2, 1) }),
      )
      assert.strictEqual(error.message, "the key llama.attention.head_count_kv is no number")
    }),
  )
})

describe("files that are refused", () => {
  /** What is wrong with the file once some of its bytes are others. */
  const mistake = (name: string, damage: (bytes: Buffer) => void) =>
    Effect.gen(function* () {
      const bytes = readFileSync(path(name))
      damage(bytes)
      const root = yield* folder
      const error = yield* Effect.flip(open({ gguf: write(root, "model.gguf", bytes) }))
      return error.message.replaceAll(`${root}/`, "")
    })
  const after = (bytes: Buffer, text: string, from = 0): number => {
    const at = bytes.indexOf(text, from)
    assert.isAtLeast(at, 0, text)
    return at + text.length
  }
  const renamed = (from: string, to: string) => (bytes: Buffer) =>
    void bytes.write(to, after(bytes, from) - from.length)
  /** The value of a key of 32 bits or fewer, behind its type. */
  const set = (key: string, value: number) => (bytes: Buffer) => void bytes.writeUInt8(value, after(bytes, key) + 4)

  const cases: ReadonlyArray<readonly [what: string, file: string, damage: (bytes: Buffer) => void, said: RegExp]> = [
    [
      "an unknown architecture",
      "llama-biases",
      (bytes) => void bytes.write("llamb", after(bytes, "llama", after(bytes, "general.architecture")) - 5),
      /model\.gguf: unknown architecture 'llamb'; GGUF files of these families are read: bloom, .*stablelm$/,
    ],
    [
      "a key that is missing",
      "llama-biases",
      renamed("llama.block_count", "llama.block_kount"),
      /model\.gguf: the key llama\.block_count is missing$/,
    ],
    [
      "a tensor that the architecture has not",
      "llama-biases",
      renamed("blk.1.ffn_up.weight", "blk.1.ffn_xp.weight"),
      /model\.gguf has the tensor blk\.1\.ffn_xp\.weight, which the architecture has no place for$/,
    ],
    [
      "a tensor of no block",
      "llama-biases",
      renamed("output_norm.weight", "ffnout_down.weight"),
      /has the tensor ffnout_down\.weight, which/,
    ],
    [
      "experts in another number",
      "mixtral",
      set("llama.expert_count", 3),
      /tensor blk\.0\.ffn_gate_exps\.weight is \[2, 24, 32\]; its keys make it 3 parts of \[24, 32\]$/,
    ],
    [
      "gains of heads in another number",
      "stablelm-12b",
      set("stablelm.attention.head_count", 8),
      /blk\.0\.attn_q_norm\.weight is \[4, 12\]; its keys make it 8 parts of \[6\]$/,
    ],
    [
      "rotary factors of another scaling",
      "llama-llama3",
      (bytes) => void bytes.writeFloatLE(1.5, bytes.indexOf(new Uint8Array(Float32Array.of(1, 1, 1, 1).buffer))),
      /rope_freqs\.weight holds other factors than the scaling of Llama 3; such files are not read$/,
    ],
    [
      "another part of the heads turned",
      "llama-biases",
      set("llama.rope.dimension_count", 6),
      /llama\.rope\.dimension_count is 6; expected 8 channels of a head$/,
    ],
    [
      "an unknown rope scaling",
      "qwen2-yarn",
      renamed("\u0004\0\0\0\0\0\0\0yarn", "\u0004\0\0\0\0\0\0\0worn"),
      /qwen2\.rope\.scaling\.type is worn; known: none, linear, yarn$/,
    ],
    [
      "an unknown rotary setting",
      "qwen2-yarn",
      renamed("qwen2.rope.scaling.factor", "qwen2.rope.scaling.alphas"),
      /the key qwen2\.rope\.scaling\.alphas is 4, a setting that is not known here$/,
    ],
    [
      "longrope with one of its two tensors",
      "phi3-longrope",
      renamed("rope_factors_short.weight", "rope_factors_shirt.weight"),
      /the tensor rope_factors_short\.weight is missing$/,
    ],
    ["values wider than keys", "gemma", set("gemma.attention.value_length", 8), /value_length is 8, but keys have 16/],
    ["the norms of FalconMamba", "mamba", set("mamba.ssm.dt_b_c_rms", 1), /dt_b_c_rms is true: norms of FalconMamba/],
  ]
  for (const [what, file, damage, said] of cases)
    it.effect(what, () => Effect.map(mistake(file, damage), (message) => assert.match(message, said)))

  const phi2 = (tensors: ReadonlyArray<Bytes.Tensor>, data: number) =>
    Effect.gen(function* () {
      const sizes = {
        embedding_length: 8,
        "attention.head_count": 1,
        feed_forward_length: 8,
        block_count: 1,
        context_length: 8,
        "rope.dimension_count": 4,
      }
      const bytes = Bytes.encode({
        keys: [
          Bytes.string("general.architecture", "phi2"),
          ...Object.entries(sizes).map(([key, value]) => Bytes.number(`phi2.${key}`, value)),
          { key: "phi2.attention.layer_norm_epsilon", type: 6, value: new Uint8Array(Float32Array.of(1e-5).buffer) },
        ],
        tensors: [{ name: "token_embd.weight", sizes: [8, 4], type: 0, offset: 0 }, ...tensors],
        data,
      })
      const error = yield* Effect.flip(open({ gguf: write(yield* folder, "model.gguf", bytes) }))
      return error.message
    })

  it.effect("two tensors that are one", () =>
    Effect.gen(function* () {
      const fused = { name: "blk.0.attn_qkv.weight", sizes: [8, 24], type: 0, offset: 128 }
      const query = { name: "blk.0.attn_q.weight", sizes: [8, 8], type: 0, offset: 896 }
      const said =
        /tensors blk\.0\.attn_qkv\.weight and blk\.0\.attn_q\.weight are both model\.layers\.0\.self_attn\.q_proj/
      assert.match(yield* phi2([fused, query], 1152), said)
    }),
  )

  it.effect("settings as large as weights", () =>
    Effect.gen(function* () {
      const factors = { name: "rope_freqs.weight", sizes: [70_000], type: 0, offset: 128 }
      assert.match(yield* phi2([factors], 280_128), /tensor rope_freqs\.weight has 70000 elements; expected a few/)
    }),
  )
})

describe("what a file says of conversations", () => {
  it.effect("its templates by name, and the tokens that end a turn", () =>
    Effect.gen(function* () {
      const keys = [
        Bytes.string("tokenizer.chat_template", "{{ messages }}"),
        Bytes.string("tokenizer.chat_template.tools", "{{ tools }}"),
        Bytes.string("tokenizer.chat_templates_of_others", "no"),
        Bytes.number("tokenizer.ggml.eos_token_id", 2),
        Bytes.number("tokenizer.ggml.eot_token_id", 7),
      ]
      const file = write(yield* folder, "model.gguf", Bytes.encode({ keys }))
      assert.deepStrictEqual(yield* Gguf.chatTemplates(file), { default: "{{ messages }}", tools: "{{ tools }}" })
      assert.deepStrictEqual(yield* Gguf.generation(file), { eos_token_id: [2, 7] })
      const silent = write(yield* folder, "model.gguf", Bytes.encode({}))
      assert.deepStrictEqual([yield* Gguf.chatTemplates(silent), yield* Gguf.generation(silent)], [{}, {}])
    }),
  )
})
