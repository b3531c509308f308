/** `load` on real small checkpoints. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { Pool } from "../../src/compute/Pool.ts"
import { Store } from "../../src/engine/store/Store.ts"
import { folder } from "../support/folder.ts"
import * as Golden from "../support/golden.ts"
import * as Study from "../support/study.ts"

const services = Layer.merge(Pool.layer(2), Store.layerMemory)
const LOAD = `base: { use: load, source: "dir:model" }`
const f32 = (...values: ReadonlyArray<number>) => new Uint8Array(Float32Array.from(values).buffer)

layer(services, { excludeTestServices: true })("load", (it) => {
  for (const [variant, dtype, files] of [
    ["mha", "F32", 2],
    ["gqa-tied", "BF16", 1],
    ["biases", "F16", 1],
  ] as const) {
    it.effect(`${variant}: ${dtype}, ${files} files`, () =>
      Effect.gen(function* () {
        const root = yield* folder
        const path = Golden.copy(variant, root)
        const result = yield* Study.run(root, LOAD)
        const model = yield* Study.model(result, "base")
        assert.strictEqual(model.family, "llama")
        assert.deepStrictEqual([model.tokenizer.bos, model.tokenizer.eos], [1, [2]])
        const sources = Object.values(result.plan.cells[0]!.sources)
        assert.strictEqual(sources.filter((source) => source.path.endsWith(".safetensors")).length, files)
        const within = new Set<string>()
        for (const [name, tensor] of Object.entries(model.tensors)) {
          if (!("dtype" in tensor)) return assert.fail(`${name} is packed`)
          assert.strictEqual(tensor.dtype, dtype)
          const { blob, bytes, within: place } = tensor.data
          assert.strictEqual(bytes, tensor.shape.reduce((n, d) => n * d, 1) * (dtype === "F32" ? 4 : 2))
          const source = sources.find(({ digest }) => digest === place!.file)!
          within.add(source.path)
          const slice = readFileSync(source.path).subarray(place!.offset, place!.offset + bytes)
          assert.strictEqual(createHash("sha256").update(slice).digest("hex"), blob, name)
        }
        assert.strictEqual(within.size, files)
        assert.strictEqual("lm_head.weight" in model.tensors, variant !== "gqa-tied")
        assert.isTrue(readFileSync(`${path}/config.json`, "utf8").includes("llama"))
        assert.deepStrictEqual((yield* Study.run(root, LOAD)).computed, [])
      }),
    )
  }

  it.effect("a head that is stored although it is tied must be the embedding", () =>
    Effect.gen(function* () {
      const stored = (head: (bytes: Uint8Array) => Uint8Array) =>
        Golden.changed("gqa-tied", {
          tensors: (tensors) => {
            const { data, ...embedding } = tensors["model.embed_tokens.weight"]!
            return { ...tensors, "lm_head.weight": { ...embedding, data: head(data) } }
          },
        })
      const same = yield* Study.run(yield* stored((bytes) => bytes), LOAD)
      assert.deepStrictEqual(same.failures, {})
      assert.notProperty((yield* Study.model(same, "base")).tensors, "lm_head.weight")
      // Its first two elements change places.
      const other = yield* stored((bytes) =>
        Buffer.concat([bytes.subarray(2, 4), bytes.subarray(0, 2), bytes.subarray(4)]),
      )
      assert.match(
        yield* Study.failure(other, LOAD, "base"),
        /tensor lm_head\.weight differs from model\.embed_tokens\.weight, to which the config ties it/,
      )
    }),
  )

  it.effect("tensors that checkpoints carry and nothing needs are left out", () =>
    Effect.gen(function* () {
      const root = yield* Golden.changed("biases", {
        tensors: (tensors) => ({
          ...tensors,
          "model.layers.0.self_attn.rotary_emb.inv_freq": { dtype: "F32", shape: [4], data: f32(1, 2, 3, 4) },
        }),
      })
      const model = yield* Study.model(yield* Study.run(root, LOAD), "base")
      assert.notProperty(model.tensors, "model.layers.0.self_attn.rotary_emb.inv_freq")
    }),
  )
})
