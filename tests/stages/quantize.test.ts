/** `quantize`: what selectors cover, what is computed again and what is reported. */
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Pool } from "../../src/compute/Pool.ts"
import { Store } from "../../src/engine/store/Store.ts"
import type * as Model from "../../stages/Model.ts"
import { folder, write } from "../support/folder.ts"
import * as Golden from "../support/golden.ts"
import * as Study from "../support/study.ts"

const services = Layer.merge(Pool.layer(2), Store.layerMemory)
const LOAD = `base: { use: load, source: "dir:model" }\n`
const SEEN = `seen: { use: calibrate, model: $base, text: prose.txt, sequences: 2, length: 16, collect: [min, max] }\n`
const quant = (settings: string) => `${LOAD}q: { use: quantize, model: $base, ${settings} }`

const checkpoint = (variant: string) =>
  Effect.map(folder, (root) => {
    Golden.copy(variant, root)
    write(root, "prose.txt", "the cat sat on the mat. the dog ran after the cat? it did: twice. ".repeat(4))
    return root
  })

const LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj"]
  .map((name) => `self_attn.${name}`)
  .concat(["gate_proj", "up_proj", "down_proj"].map((name) => `mlp.${name}`))
const bits = (bits: number) => ({ bits, symmetric: false, range: "fixed" })
const cache = (keys: number, values: number) => ({
  keys: bits(keys),
  values: bits(values),
  group: 8,
  point: "after-rope",
})
/** Tensor -> setting, for what was quantized. */
const settings = ({ coverage }: Model.Value) =>
  Object.fromEntries(coverage.filter(({ quantized }) => quantized).map(({ setting, tensor }) => [tensor, setting]))
const inBlocks = (layers: number, setting: (layer: number, site: string) => string | undefined) =>
  Object.fromEntries(
    Array.from({ length: layers }, (_, layer) =>
      LINEARS.map((site) => [`model.layers.${layer}.${site}.weight`, setting(layer, site)] as const),
    )
      .flat()
      .filter(([, label]) => label !== undefined),
  )

layer(services, { excludeTestServices: true })("quantize", (it) => {
  describe("selectors", () => {
    const cases: ReadonlyArray<readonly [string, string, (layer: number, site: string) => string | undefined]> = [
      ["all linears of the blocks", "weights: w4-g8", () => "w4-g8"],
      [
        "a site by name",
        `select: [{ sites: mlp.down_proj, weights: w8-g8 }]`,
        (_, site) => (site === "mlp.down_proj" ? "w8-g8" : undefined),
      ],
      [
        "a pattern and a range",
        `weights: w4-g8, select: [{ sites: "mlp.*", layers: 0-1, weights: w3-g8 }]`,
        (layer, site) => (site.startsWith("mlp") && layer < 2 ? "w3-g8" : "w4-g8"),
      ],
      [
        "lists of both",
        `select: [{ sites: [self_attn.q_proj, "*.v_proj"], layers: "0,2", weights: w2-channel }]`,
        (layer, site) => (/[qv]_proj/.test(site) && layer !== 1 ? "w2-channel" : undefined),
      ],
      [
        "later wins",
        `weights: w8-g8, select: [{ layers: 1, weights: w4-g8 }, { sites: "mlp.*", weights: w2-g8 }, { layers: 2, weights: none }]`,
        (layer, site) => (layer === 2 ? undefined : site.startsWith("mlp") ? "w2-g8" : layer === 1 ? "w4-g8" : "w8-g8"),
      ],
    ]
    for (const [name, written, expected] of cases) {
      it.effect(name, () =>
        Effect.gen(function* () {
          const root = yield* checkpoint("gqa-tied")
          const model = yield* Study.model(yield* Study.run(root, quant(written)), "q")
          assert.deepStrictEqual(settings(model), inBlocks(3, expected))
        }),
      )
    }

    it.effect("activations and the cache, by site and layer", () =>
      Effect.gen(function* () {
        const root = yield* checkpoint("gqa-tied")
        const written = `activations: a8, kv: kv4, select: [{ sites: mlp.down_proj, activations: none }, { sites: lm_head, activations: a8-sym }, { layers: 1, kv: kv2-v4 }, { layers: 2, kv: none }]`
        const { activations, kv } = yield* Study.model(yield* Study.run(root, quant(written)), "q")
        const grid = { kind: "dynamic", bits: 8, symmetric: false, range: "fixed" }
        const sites = [0, 1, 2].flatMap((layer) =>
          LINEARS.filter((site) => site !== "mlp.down_proj").map((site) => [`${layer}.${site}`, grid] as const),
        )
        assert.deepStrictEqual(activations, { ...Object.fromEntries(sites), lm_head: { ...grid, symmetric: true } })
        assert.deepStrictEqual(kv, { 0: cache(4, 4), 1: cache(2, 4) })
      }),
    )
  })

  it.effect("recurrent states, by layer, as the model's numbers show", () =>
    Effect.gen(function* () {
      const root = yield* checkpoint("../mamba/biases")
      const task = "kind: perplexity\nversion: 1\ndescription: a text\ndata: { source: 'file:prose.txt' }\n"
      write(root, "task.yaml", `${task}window: 32\nstride: 32\nbos: true\n`)
      const scored = (name: string, settings: string) =>
        `${name}: { use: quantize, model: $base, ${settings} }\ns_${name}: { use: evaluate, model: $${name}, task: ./task.yaml }\n`
      const placed = "select: [{ layers: 0, state: s8 }, { layers: 1, state: s2-g4-sym }]"
      const yaml = LOAD + scored("plain", "state: none") + scored("mixed", placed) + scored("fine", "state: s8")
      const result = yield* Study.run(root, yaml)
      assert.deepStrictEqual(result.failures, {})
      assert.deepStrictEqual((yield* Study.model(result, "mixed")).state, {
        "0.ssm": { ...bits(8), group: 8 },
        "1.ssm": { bits: 2, symmetric: true, range: "fixed", group: 4 },
      })
      const perplexity = (name: string) =>
        Effect.map(Study.scores(result, `s_${name}`), (scores) => Math.log(Study.metrics(scores)["perplexity"]!))
      const found = [yield* perplexity("plain"), yield* perplexity("fine"), yield* perplexity("mixed")]
      assert.strictEqual(new Set(found).size, 3)
      assert.approximately(found[1]!, found[0]!, 0.02)
    }),
  )

  it.effect("a changed selector requantizes what it covers, and nothing else", () =>
    Effect.gen(function* () {
      const root = yield* checkpoint("gqa-tied")
      const units = (settings: string) =>
        Effect.map(Study.counting(Study.run(root, quant(settings))), ({ units }) => units["tensor"] ?? 0)
      assert.strictEqual(yield* units("weights: w4-g8"), 21)
      assert.strictEqual(yield* units("weights: { bits: 4, group: 8 }"), 0)
      assert.strictEqual(yield* units("weights: w4-g8, kv: kv4"), 0)
      assert.strictEqual(yield* units(`weights: w4-g8, select: [{ sites: mlp.down_proj, weights: w8-g8 }]`), 3)
      assert.strictEqual(
        yield* units(`weights: w4-g8, select: [{ sites: mlp.down_proj, layers: 1, weights: w8-g8 }]`),
        0,
      )
      assert.strictEqual(yield* units(`weights: w4-g8, select: [{ layers: 0-1, weights: w3-g8 }]`), 14)
    }).pipe(Effect.provide(Layer.fresh(Store.layerMemory))),
  )

  it.effect("what was quantized, what was left and why, and the bits it takes", () =>
    Effect.gen(function* () {
      const root = yield* checkpoint("biases")
      const model = yield* Study.model(
        yield* Study.run(root, quant(`weights: w4-g8, select: [{ sites: "mlp.*", layers: 1, weights: none }]`)),
        "q",
      )
      const by = new Map(model.coverage.map((entry) => [entry.tensor, entry]))
      assert.deepStrictEqual([...by.keys()].toSorted(), Object.keys(model.tensors).toSorted())
      const q = by.get("model.layers.0.self_attn.q_proj.weight")!
      // Four bits a weight, and a float32 scale and a byte of zero point for every eight.
      assert.deepInclude(q, {
        site: "0.self_attn.q_proj",
        parameters: 1024,
        bits: 4 + 40 / 8,
        setting: "w4-g8",
        quantized: true,
      })
      assert.isAbove(q.error!.sqnr!, 15)
      const left = (tensor: string) => by.get(tensor)!
      assert.deepInclude(left("model.layers.1.mlp.up_proj.weight"), {
        bits: 16,
        quantized: false,
        setting: "left alone: its setting is none",
      })
      assert.deepInclude(left("model.layers.0.self_attn.q_proj.bias"), {
        quantized: false,
        setting: "left alone: a vector, not a matrix",
      })
      assert.deepInclude(left("model.embed_tokens.weight"), {
        site: "model.embed_tokens",
        setting: "left alone: heads and embeddings are quantized only when selected by name",
      })
      assert.isUndefined(left("lm_head.weight").error)
      // A second stage adds to the first: what it leaves alone is reported as the first did it.
      const twice = `${quant("weights: w4-g8")}\nr: { use: quantize, model: $q, kv: kv4, select: [{ sites: lm_head, weights: w8-g8 }] }`
      const chained = yield* Study.model(yield* Study.run(root, twice), "r")
      assert.deepStrictEqual(settings(chained), { ...inBlocks(2, () => "w4-g8"), "lm_head.weight": "w8-g8" })
    }),
  )

  it.effect("a tied head and its embedding are one tensor, named together", () =>
    Effect.gen(function* () {
      const root = yield* checkpoint("gqa-tied")
      const both = `select: [{ sites: [lm_head, model.embed_tokens], weights: w8-g8 }]`
      const counted = yield* Study.counting(Study.run(root, quant(both)))
      assert.deepStrictEqual(counted.units, { tensor: 1 })
      const { coverage } = yield* Study.model(counted.value, "q")
      const entry = coverage.find(({ tensor }) => tensor === "model.embed_tokens.weight")!
      assert.deepInclude(entry, { site: "model.embed_tokens, lm_head", setting: "w8-g8", quantized: true })
    }),
  )

  it.effect("static activations take their range from the calibration", () =>
    Effect.gen(function* () {
      const root = yield* checkpoint("biases")
      const yaml = `${LOAD}${SEEN}q: { use: quantize, model: $base, stats: $seen, activations: a8-static }`
      const result = yield* Study.run(root, yaml)
      const [model, seen] = [yield* Study.model(result, "q"), yield* Study.statistics(result, "seen")]
      assert.strictEqual(Object.keys(model.activations).length, 14)
      for (const [site, quantizer] of Object.entries(model.activations)) {
        const { max, min } = seen.sites[site]!
        const scale = Math.fround(Math.fround(Math.fround(Math.max(max, 0)) - Math.fround(Math.min(min, 0))) / 255)
        assert.deepInclude(quantizer, { kind: "static", bits: 8, scale })
      }
    }),
  )

  it.effect("keys per channel take their ranges from the calibration, at the point where they are quantized", () =>
    Effect.gen(function* () {
      const root = yield* checkpoint("biases")
      const settings = ["kv4-channel", "kv4-channel-pre", "kv4", "kv4-pre"]
      const yaml = settings.map((kv, i) => `q${i}: { use: quantize, model: $base, stats: $seen, kv: ${kv} }`).join("\n")
      const result = yield* Study.run(root, `${LOAD}${SEEN}${yaml}`)
      assert.deepStrictEqual(result.failures, {})
      const seen = yield* Study.statistics(result, "seen")
      const placed = yield* Effect.forEach(settings, (_, i) =>
        Effect.map(Study.model(result, `q${i}`), ({ kv }) => kv["0"] as any),
      )
      assert.deepStrictEqual(
        placed.map(({ channels, point }) => [point, channels?.scales.length]),
        [
          ["after-rope", seen.sites["0.key"]!.channels],
          ["before-rope", seen.sites["0.key-before-rope"]!.channels],
          ["after-rope", undefined],
          ["before-rope", undefined],
        ],
      )
      // The widest channel's scale is that of the range that calibration saw at that point.
      for (const [i, site] of ["0.key", "0.key-before-rope"].entries()) {
        const { max, min } = seen.sites[site]!
        assert.isAtMost(Math.max(...placed[i].channels.scales), (Math.max(max, 0) - Math.min(min, 0)) / 15 + 1e-6)
      }
      assert.notDeepEqual(placed[0].channels.scales, placed[1].channels.scales)
      const uncalibrated = `${LOAD}q: { use: quantize, model: $base, kv: kv4-channel }`
      assert.match(yield* Study.mistakes(root, uncalibrated), /calibrat/)
    }),
  )
})
