/** The same trained weights in several formats: what is measured of them is the same. */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { cpSync, existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Pool } from "../../src/compute/Pool.ts"
import { Store } from "../../src/engine/store/Store.ts"
import { folder, write } from "../support/folder.ts"
import * as Study from "../support/study.ts"

const shared = new URL("../../../shared/", import.meta.url)
const stories = fileURLToPath(new URL("models/llama-stories260K/", shared))
const corpus = fileURLToPath(new URL("data/tinystories/tinystories_train_sample_2MiB.txt", shared))
const present = existsSync(stories) && existsSync(corpus)

const services = Layer.merge(Pool.layer(2), Store.layerMemory)
/** The GGUF file was made for no longer sequences. */
const WINDOW = 128
const TASK = `kind: perplexity\nversion: 1\ndescription: a text\ndata: { source: "file:text.txt" }\nwindow: ${WINDOW}\nstride: ${WINDOW}\nbos: true\n`

describe.skipIf(!present)("a trained model of 260,000 parameters", () => {
  layer(services, { excludeTestServices: true })((it) => {
    it.effect("has one perplexity in safetensors and in GGUF", () =>
      Effect.gen(function* () {
        const root = yield* folder
        cpSync(join(stories, "hf"), join(root, "hf"), { recursive: true })
        cpSync(join(stories, "stories260K-f32.gguf"), join(root, "stories.gguf"))
        write(root, "text.txt", readFileSync(corpus, "utf8").slice(0, 6000))
        write(root, "task.yaml", TASK)
        const stages = ["dir:hf", "gguf:stories.gguf"].flatMap((source, i) => [
          `m${i}: { use: load, source: "${source}" }`,
          `s${i}: { use: evaluate, model: $m${i}, task: ./task.yaml }`,
        ])
        const result = yield* Study.run(root, stages.join("\n"))
        assert.deepStrictEqual(result.failures, {})
        assert.includeMembers([...result.computed], ["s0", "s1"])
        const [hf, gguf] = yield* Effect.forEach(["s0", "s1"], (cell) =>
          Effect.map(Study.scores(result, cell), ({ metrics: [first] }) => first!),
        )
        // Short windows cost a little; weights in a wrong order give more than 10,000.
        assert.isTrue(hf!.value > 3.5 && hf!.value < 9, `${hf!.value}`)
        assert.strictEqual(gguf!.n, hf!.n)
        assert.isBelow(Math.abs(gguf!.value / hf!.value - 1), 1e-5, `${gguf!.value}, not ${hf!.value}`)
      }),
    )
  })
})
if (!present) it.skip(`no trained checkpoint at ${stories}, or no stories at ${corpus}`, () => {})
