/** What `quantize` refuses before anything runs. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Pool } from "../../src/compute/Pool.ts"
import { Store } from "../../src/engine/store/Store.ts"
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

/** Refused before anything runs, at the place in the YAML that is wrong (the stage is on line 4). */
const REFUSED: ReadonlyArray<readonly [string, string, RegExp]> = [
  [
    "a group that does not divide",
    "weights: w4-g64",
    /4:46: model\.layers\.0\.self_attn\.q_proj\.weight: rows of 32 do not split into groups of 64; near it: 4, 8/,
  ],
  [
    "a group that does not divide, in a selector",
    `weights: w4-g8, select: [{ sites: mlp.down_proj, weights: w4-g16 }]`,
    /4:95: model\.layers\.0\.mlp\.down_proj\.weight: rows of 56 .*near it: 8, 14, 28, 56/,
  ],
  [
    "a group that does not divide the head",
    "kv: kv4-g3",
    /4:41: KV cache: rows of 8 do not split into groups of 3; near it: 1, 2, 4, 8/,
  ],
  ["a symmetric grid of one bit", "weights: w1-g8-sym", /a symmetric grid needs at least 2 bits/],
  [
    "a selector that matches nothing",
    `select: [{ sites: mlp.dwn_proj, weights: w4-g8 }]`,
    /4:55: 'mlp\.dwn_proj' matches no weight of the model; did you mean 'mlp\.down_proj'/,
  ],
  [
    "a head that is not in a layer",
    `select: [{ sites: lm_head, layers: 0, weights: w4-g8 }]`,
    /'lm_head' matches no weight/,
  ],
  [
    "a selector that says nothing",
    `select: [{ sites: lm_head }]`,
    /4:46: an entry needs weights, activations, kv or state/,
  ],
  [
    "layers that are not there",
    `select: [{ layers: 1-2, weights: w4-g8 }]`,
    /4:56: layers 1-2: the model has layers 0 to 1/,
  ],
  ["layers backwards", `select: [{ layers: 1-0, weights: w4-g8 }]`, /layers 1-0: the model has layers 0 to 1/],
  [
    "layers without end",
    `select: [{ layers: 0-99999999999, weights: w4-g8 }]`,
    /layers 0-99999999999: the model has layers 0 to 1/,
  ],
  ["a negative layer", `select: [{ layers: -1, weights: w4-g8 }]`, /4:56: 'select\.0\.layers' /],
  ["the cache of a site", `select: [{ sites: mlp.up_proj, kv: kv4 }]`, /the cache belongs to layers, not to sites/],
  [
    "the state of a site",
    `select: [{ sites: mlp.up_proj, state: s8 }]`,
    /4:75: a state belongs to layers, not to sites/,
  ],
  [
    "a state where there is none",
    "state: s8",
    /4:44: llama keeps no recurrent state: its layers keep keys and values; write state: none/,
  ],
  [
    "a state where there is none, in a selector",
    "select: [{ layers: 1, state: s8 }]",
    /4:66: llama keeps no recurrent state/,
  ],
  [
    "activations of an embedding",
    `select: [{ sites: model.embed_tokens, activations: a8 }]`,
    /4:88: an embedding has no activations/,
  ],
  [
    "a label of another slot",
    "weights: a8",
    /4:46: 'weights' 'a8' is no weights setting; expected none, a label such as/,
  ],
  ["a cache for a state", "state: kv4", /4:44: 'state' 'kv4' is no state setting; expected none, a label such as s8/],
  [
    "static activations without statistics",
    "activations: a8-static",
    /4:50: method static needs statistics \(min, max\); give stats: \$<a calibrate stage>/,
  ],
]

layer(services, { excludeTestServices: true })("refused", (it) => {
  for (const [name, written, message] of REFUSED) {
    it.effect(name, () =>
      Effect.gen(function* () {
        assert.match(yield* Study.mistakes(yield* checkpoint("biases"), quant(written)), message)
      }),
    )
  }
  it.effect("static activations with statistics that lack the minimum", () =>
    Effect.gen(function* () {
      const yaml = `${LOAD}${SEEN.replace("min, max", "max, absmax")}q: { use: quantize, model: $base, stats: $seen, activations: a8-static }`
      const found = yield* Study.mistakes(yield* checkpoint("biases"), yaml)
      assert.match(
        found,
        /^study\.yaml:5:\d+: method static needs min, which the calibration did not collect; add it to collect$/,
      )
    }),
  )
  const MAMBA: ReadonlyArray<readonly [string, string, RegExp]> = [
    [
      "a cache where there is none",
      "kv: kv4",
      /4:41: mamba has no KV cache: its layers keep a recurrent state; write kv: none/,
    ],
    [
      "a group that does not divide the state",
      "state: s8-g3",
      /4:44: recurrent state: rows of 8 do not split into groups of 3; near it: 1, 2, 4, 8/,
    ],
  ]
  for (const [name, written, message] of MAMBA) {
    it.effect(name, () =>
      Effect.gen(function* () {
        assert.match(yield* Study.mistakes(yield* checkpoint("../mamba/biases"), quant(written)), message)
      }),
    )
  }
  it.effect("a tied head and its embedding in two ways", () =>
    Effect.gen(function* () {
      const root = yield* checkpoint("gqa-tied")
      const two = `select: [{ sites: lm_head, weights: w4-g8 }, { sites: model.embed_tokens, weights: w8-g8 }]`
      const message =
        /model\.embed_tokens and lm_head share the tensor model\.embed_tokens\.weight but have the settings w8-g8 and w4-g8/
      assert.match(yield* Study.mistakes(root, quant(two)), message)
    }),
  )
})
