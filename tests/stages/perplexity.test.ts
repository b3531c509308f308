/**
 * Perplexity under quantization: the bundled model's equals PyTorch's to four digits (`tests/golden/perplexity-tiny.json`,
 * written by `tests/reference/perplexity.py`), and it grows as bits get fewer.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createHash } from "node:crypto"
import { cpSync, existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Pool } from "../../src/compute/Pool.ts"
import * as Safetensors from "../../src/data/Safetensors.ts"
import { encode } from "../../src/data/SafetensorsWriter.ts"
import { Store } from "../../src/engine/store/Store.ts"
import * as Random from "../../src/math/Random.ts"
import { folder, write } from "../support/folder.ts"
import * as Perplexities from "../support/perplexities.ts"
import * as Golden from "../support/golden.ts"
import * as Study from "../support/study.ts"

const services = Layer.merge(Pool.layer(2), Store.layerMemory)
const task = (window: number) =>
  `kind: perplexity\nversion: 1\ndescription: a text\ndata: { source: "file:text.txt" }\nwindow: ${window}\nstride: ${window}\nbos: true\n`

/** Perplexity of each setting (parameters of `quantize`) on the text in `root`, and how many tokens were scored. */
const measure = Effect.fnUntraced(function* (root: string, source: string, settings: ReadonlyArray<string>) {
  const stages = settings.flatMap((setting, i) => [
    `q${i}: { use: quantize, model: $base, ${setting} }`,
    `s${i}: { use: evaluate, model: $q${i}, task: ./task.yaml }`,
  ])
  const result = yield* Study.run(root, [`base: { use: load, source: "${source}" }`, ...stages].join("\n"))
  assert.deepStrictEqual(result.failures, {})
  return yield* Effect.forEach(settings, (_, i) =>
    Effect.map(Study.scores(result, `s${i}`), ({ metrics: [first] }) => ({ value: first!.value, n: first!.n })),
  )
})

/** Four digits. */
const TIGHT = 5e-5
const bundled = fileURLToPath(new URL("../../pipelines/tiny/", import.meta.url))
const golden = Perplexities.read(new URL("../golden/perplexity-tiny.json", import.meta.url))
/**
 * Where activations are quantized, a value that lies between two codes falls to either side with the last bit of a sum,
 * and every later code with it: how far PyTorch is from itself when its products are summed in double precision.
 */
const OWN = Math.max(
  ...Object.values(golden.settings).map((it) => Math.abs(it.perplexity_exact_products / it.perplexity - 1)),
)

layer(services, { excludeTestServices: true })("the bundled model", (it) => {
  it.effect("has PyTorch's perplexity at every setting", () =>
    Effect.gen(function* () {
      const { characters, sha256, start } = golden.text
      const text = [...readFileSync(join(bundled, "data/prose.txt"), "utf8")].slice(start, start + characters).join("")
      assert.strictEqual(
        createHash("sha256").update(text).digest("hex"),
        sha256,
        "the text is not the one PyTorch read",
      )
      const root = yield* folder
      write(root, "text.txt", text)
      write(root, "task.yaml", task(golden.tokens[0]!.length))
      const named = Object.entries(golden.settings)
      const found = yield* measure(
        root,
        "bundled:tiny",
        named.map(([, { precision }]) => Perplexities.settings(precision)),
      )
      const differing = named.flatMap(([name, { perplexity, tokens }], i) => {
        assert.strictEqual(found[i]!.n, tokens, name)
        const tolerance = /A\d/.test(name) ? Math.max(TIGHT, OWN) : TIGHT
        return Math.abs(found[i]!.value / perplexity - 1) <= tolerance
          ? []
          : [`${name}: ${found[i]!.value}, not ${perplexity}`]
      })
      assert.deepStrictEqual(differing, [])
    }),
  )
})

const shared = new URL("../../../shared/", import.meta.url)
const stories = fileURLToPath(new URL("models/llama-stories260K/hf", shared))
const corpus = fileURLToPath(new URL("data/tinystories/tinystories_train_sample_2MiB.txt", shared))

describe.skipIf(!existsSync(stories) || !existsSync(corpus))("a trained model of 260,000 parameters", () => {
  layer(services, { excludeTestServices: true })((it) => {
    const prepare = Effect.map(folder, (root) => {
      cpSync(stories, join(root, "model"), { recursive: true })
      write(root, "text.txt", readFileSync(corpus, "utf8").slice(0, 6000))
      write(root, "task.yaml", task(256))
      return root
    })

    it.effect("reads stories worse with fewer bits", () =>
      Effect.gen(function* () {
        const root = yield* prepare
        const settings = [
          "weights: none",
          ...[8, 4, 3, 2].map((bits) => `weights: w${bits}-channel`),
          ...[8, 4, 3, 2].map((bits) => `kv: kv${bits}`),
        ]
        const values = (yield* measure(root, "dir:model", settings)).map(({ value }) => value)
        const [full, ...rest] = values
        assert.isTrue(full! > 3.5 && full! < 7.5, `${full}`)
        for (const ladder of [rest.slice(0, 4), rest.slice(4)]) {
          assert.deepStrictEqual(
            ladder,
            ladder.toSorted((a, b) => a - b),
          )
          assert.isBelow(Math.abs(ladder[0]! / full! - 1), 0.01)
          assert.isAbove(ladder[3]!, 2 * full!)
        }
      }),
    )

    it.effect("reads nothing once its weights are shuffled", () =>
      Effect.gen(function* () {
        const root = yield* prepare
        const random = Random.make(4n)
        const tensors = yield* Golden.tensors(join(root, "model"))
        const shuffled = Object.entries(tensors).map(([name, tensor]) => {
          const values = new Float32Array(tensor.data.buffer.slice(0))
          for (let i = values.length - 1; i > 0; i--) {
            const j = random.below(i + 1)
            ;[values[i], values[j]] = [values[j]!, values[i]!]
          }
          return [name, { ...tensor, data: new Uint8Array(values.buffer) }] as const
        })
        write(root, "model/model.safetensors", encode(Object.fromEntries(shuffled)))
        yield* Safetensors.read(join(root, "model/model.safetensors"))
        const [found] = yield* measure(root, "dir:model", ["weights: none"])
        assert.isAbove(found!.value, 1e4)
      }),
    )
  })
})
if (!existsSync(stories)) it.skip(`no trained checkpoint at ${stories}`, () => {})
