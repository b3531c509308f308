import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { RepoFile } from "../../src/hub/Digest.ts"
import * as Files from "../../src/hub/Files.ts"

const about = { source: "hub:acme/tiny@main", commit: "abc" }
const repository = (names: string): ReadonlyArray<RepoFile> =>
  names.split(" ").map((path) => ({ path, size: 1, digest: { kind: "blob", hex: "0".repeat(40) } }))
const paths = (files: ReadonlyArray<RepoFile>) => files.map(({ path }) => path).join(" ")

describe("a model", () => {
  const extra = "README.md .gitattributes onnx/model.onnx original/consolidated.00.pth flax_model.msgpack tf_model.h5"
  const chosen: ReadonlyArray<readonly [has: string, takes: string, index?: string]> = [
    ["config.json tokenizer.json model.safetensors", "config.json tokenizer.json model.safetensors"],
    [
      "config.json generation_config.json tokenizer.json tokenizer.model tokenizer_config.json special_tokens_map.json chat_template.jinja model.safetensors pytorch_model.bin pytorch_model.bin.index.json",
      "config.json generation_config.json tokenizer_config.json special_tokens_map.json chat_template.jinja tokenizer.json model.safetensors",
    ],
    [
      "config.json tokenizer.model model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json pytorch_model.bin",
      "config.json tokenizer.model model.safetensors.index.json",
      "model.safetensors.index.json",
    ],
    ["config.json vocab.json merges.txt pytorch_model.bin", "config.json vocab.json merges.txt pytorch_model.bin"],
    [
      "config.json vocab.json merges.txt pytorch_model.bin.index.json pytorch_model-00001-of-00001.bin",
      "config.json vocab.json merges.txt pytorch_model.bin.index.json",
      "pytorch_model.bin.index.json",
    ],
  ]
  for (const [has, takes, index] of chosen) {
    it.effect(`of ${has.slice(0, 70)}`, () =>
      Effect.gen(function* () {
        const found = yield* Files.model(about, repository(`${has} ${extra}`))
        assert.strictEqual(paths(found.files), takes)
        assert.strictEqual(found.index?.path, index)
      }),
    )
  }

  const refused: ReadonlyArray<readonly [has: string, message: RegExp]> = [
    ["README.md", /^hub:acme\/tiny@main \(commit abc\) has no config.json: it is no model in the Hugging Face layout$/],
    ["q4.gguf q8.gguf", /for one of its GGUF files write hub:acme\/tiny@main#q4.gguf/],
    [
      "config.json model.safetensors",
      /has no tokenizer: none of tokenizer.json, tokenizer.model, vocab.json with merges.txt/,
    ],
    ["config.json vocab.json model.safetensors", /has no tokenizer/],
    ["config.json tokenizer.json onnx/model.safetensors", /has no weights: none of model.safetensors, /],
  ]
  for (const [has, message] of refused) {
    it.effect(`is not ${has}`, () =>
      Effect.map(Effect.flip(Files.model(about, repository(has))), (error) => assert.match(error.message, message)),
    )
  }
})

describe("an index", () => {
  const files = repository("a.safetensors b.safetensors sub/c.safetensors config.json d.bin")
  const index = "model.safetensors.index.json"
  const shards = (map: unknown) => Files.shards(about, files, index, JSON.stringify({ weight_map: map }))

  it.effect("names each shard once", () =>
    Effect.gen(function* () {
      const found = yield* shards({ x: "b.safetensors", y: "a.safetensors", z: "b.safetensors" })
      assert.strictEqual(paths(found), "a.safetensors b.safetensors")
      const bins = yield* Files.shards(about, files, "pytorch_model.bin.index.json", '{"weight_map":{"x":"d.bin"}}')
      assert.strictEqual(paths(bins), "d.bin")
    }),
  )

  const refused: ReadonlyArray<readonly [map: unknown, message: RegExp]> = [
    [{ x: "e.safetensors" }, /names "e.safetensors", which is no file of the repository/],
    [{ x: "../a.safetensors" }, /names "..\/a.safetensors", which is no file/],
    [{ x: "sub/c.safetensors" }, /expected .safetensors files beside it/],
    [{ x: "d.bin" }, /names "d.bin"; expected .safetensors/],
    [{ x: 3 }, /names 3/],
    [{}, /names no files/],
    [undefined, /has no weight_map/],
    [["a.safetensors"], /has no weight_map/],
  ]
  for (const [map, message] of refused) {
    it.effect(`with ${JSON.stringify(map)} is refused`, () =>
      Effect.map(Effect.flip(shards(map)), (error) => assert.match(error.message, message)),
    )
  }
  it.effect("that is no JSON is refused", () =>
    Effect.map(Effect.flip(Files.shards(about, files, index, "{")), (error) =>
      assert.match(error.message, /has a model.safetensors.index.json that is not JSON/),
    ),
  )
})

describe("a GGUF file", () => {
  const files = repository(
    "q4.gguf whole-00001-of-00001.gguf big-00001-of-00002.gguf big-00002-of-00002.gguf config.json",
  )
  it.effect("is one file", () =>
    Effect.gen(function* () {
      for (const name of ["q4.gguf", "whole-00001-of-00001.gguf"])
        assert.strictEqual(paths(yield* Files.gguf(about, files, name)), name)
    }),
  )
  it.effect("must be there, and whole", () =>
    Effect.gen(function* () {
      const refused = (path: string) =>
        Effect.map(Effect.flip(Files.gguf(about, files, path)), ({ message }) => message)
      assert.match(
        yield* refused("q5.gguf"),
        /has no file q5.gguf; its GGUF files: big-00001-of-00002.gguf, .*q4.gguf, whole-00001-of-00001.gguf$/,
      )
      assert.match(yield* refused("config.json"), /has no file config.json/)
      for (const part of [1, 2]) {
        const name = `big-0000${part}-of-00002.gguf`
        assert.match(yield* refused(name), /, one of 2 parts; join them with `llama-gguf-split --merge`/)
      }
      assert.match(yield* refused("x-00001-of-99999.gguf"), /has no file x-00001-of-99999.gguf/)
    }),
  )
})
