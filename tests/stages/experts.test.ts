/** Stages on a model of sparse experts: routers are left alone, and experts that calibration never reached are named. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { cpSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Pool } from "../../src/compute/Pool.ts"
import { Store } from "../../src/engine/store/Store.ts"
import { folder, write } from "../support/folder.ts"
import * as Study from "../support/study.ts"
import * as Tokenizer from "../support/tokenizer.ts"

const services = Layer.merge(Pool.layer(2), Store.layerMemory)
const LOAD = `base: { use: load, source: "dir:model" }\n`

const checkpoint = (variant: string) =>
  Effect.map(folder, (root) => {
    cpSync(fileURLToPath(new URL(`../golden/families/mixtral/${variant}`, import.meta.url)), join(root, "model"), {
      recursive: true,
    })
    write(root, "model/tokenizer.json", Tokenizer.json())
    write(root, "prose.txt", "the cat sat on the mat. the dog ran after the cat? it did: twice. ".repeat(4))
    return root
  })

const EXPERTS = [0, 1, 2, 3].flatMap((expert) =>
  ["w1", "w2", "w3"].map((name) => `block_sparse_moe.experts.${expert}.${name}`),
)
const ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"].map((name) => `self_attn.${name}`)

layer(services, { excludeTestServices: true })("experts", (it) => {
  it.effect("a router is quantized only when selected by name", () =>
    Effect.gen(function* () {
      const root = yield* checkpoint("2-of-4")
      const yaml = `${LOAD}all: { use: quantize, model: $base, weights: w4-g8, activations: a8, select: [{ layers: 1, weights: w8-g8 }] }
named: { use: quantize, model: $base, weights: w4-g8, select: [{ sites: block_sparse_moe.gate, layers: 1, weights: w8-g8, activations: a8 }] }`
      const result = yield* Study.run(root, yaml)
      const [all, named] = [yield* Study.model(result, "all"), yield* Study.model(result, "named")]
      const by = new Map(all.coverage.map((entry) => [entry.tensor, entry]))
      for (const layer of [0, 1]) {
        for (const site of [...ATTENTION, ...EXPERTS]) {
          const { quantized, setting } = by.get(`model.layers.${layer}.${site}.weight`)!
          assert.deepStrictEqual({ quantized, setting }, { quantized: true, setting: layer === 0 ? "w4-g8" : "w8-g8" })
        }
        assert.deepInclude(by.get(`model.layers.${layer}.block_sparse_moe.gate.weight`), {
          site: `${layer}.block_sparse_moe.gate`,
          quantized: false,
          setting: "left alone: a router is quantized only when selected by name",
        })
      }
      assert.deepStrictEqual(
        Object.keys(all.activations).toSorted(),
        [0, 1].flatMap((layer) => [...ATTENTION, ...EXPERTS].map((site) => `${layer}.${site}`)).toSorted(),
      )
      const routers = named.coverage.filter(({ site }) => site.endsWith(".gate"))
      assert.deepStrictEqual(
        routers.map(({ quantized }) => quantized),
        [false, true],
      )
      assert.deepStrictEqual(Object.keys(named.activations), ["1.block_sparse_moe.gate"])
    }),
  )

  it.effect("static ranges come from the routed tokens; an expert that saw none is named", () =>
    Effect.gen(function* () {
      const root = yield* checkpoint("2-of-8")
      const seen = (sequences: number, length: number) =>
        `seen: { use: calibrate, model: $base, text: prose.txt, bos: false, sequences: ${sequences}, length: ${length} }\n`
      const quant = `q: { use: quantize, model: $base, stats: $seen, activations: a8-static }`
      const some = yield* Study.statistics(yield* Study.run(root, LOAD + seen(1, 2)), "seen")
      const idle = Object.entries(some.sites).filter(([, { tokens }]) => tokens === 0)
      assert.isAtLeast(idle.length, 2 * 4 * 3)
      for (const [site, { absmax, perChannel }] of idle) {
        assert.match(site, /^\d\.block_sparse_moe\.experts\.\d\.w[123]$/)
        assert.deepStrictEqual({ absmax, perChannel }, { absmax: 0, perChannel: {} })
      }
      assert.match(
        yield* Study.failure(root, LOAD + seen(1, 2) + quant, "q"),
        /^\d\.block_sparse_moe\.experts\.\d\.w\d: no token of the calibration was routed to this expert, so there is no min; calibrate on more text/,
      )
      const enough = yield* Study.run(root, LOAD + seen(16, 16) + quant)
      const { sites } = yield* Study.statistics(enough, "seen")
      const { activations } = yield* Study.model(enough, "q")
      for (const layer of [0, 1]) {
        const counts = Object.entries(sites).filter(([site]) => site.startsWith(`${layer}.`) && site.endsWith("w1"))
        assert.strictEqual(
          counts.reduce((sum, [, { tokens }]) => sum + tokens, 0),
          2 * 16 * 16,
        )
      }
      assert.strictEqual(Object.keys(activations).length, 2 * (4 + 8 * 3))
    }),
  )
})
