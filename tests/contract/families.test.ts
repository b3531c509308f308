/** What every family in `src/models` keeps to: its description is its catalog, and runs plain, observed and quantized. */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Calibrating from "../../src/compute/Calibrating.ts"
import * as Runner from "../../src/compute/Runner.ts"
import type { Model } from "../../src/compute/Model.ts"
import { Pool } from "../../src/compute/Pool.ts"
import * as Scoring from "../../src/compute/Scoring.ts"
import type { Activation, KeyValue, State } from "../../src/onnx/FakeQuant.ts"
import * as Family from "../../src/models/Family.ts"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { open } from "../support/checkpoint.ts"
import { folder } from "../support/folder.ts"
import { modules } from "../support/plugins.ts"
import * as Random from "../support/randomCheckpoint.ts"

const families = (await modules("src/models")).map(({ name, value }) => ({ name, family: value as Family.Family<any> }))

const golden = new URL("../golden/families/", import.meta.url).pathname

/** Tensors of more than one dimension that no product takes: they are nobody's to quantize as a matrix. */
const NO_MATRIX = /conv1d\.weight$|A_log$/

const requests: ReadonlyArray<Scoring.Request> = [8, 5].map((length) => ({
  tokens: Int32Array.from({ length }, (_, i) => (7 * i + length) % 32),
  from: 1,
}))

for (const { name, family } of families.filter(({ name }) => existsSync(golden + name))) {
  describe(name, () => {
    // The first variant stands for the family; all of them are compared with PyTorch in tests/models.
    const raw = JSON.parse(readFileSync(`${golden}${name}/${readdirSync(`${golden}${name}`)[0]}/config.json`, "utf8"))
    const outlined = Effect.map(Schema.decodeUnknownEffect(family.config)(raw), (config) => ({
      config,
      outline: Family.outline(family, config),
    }))

    it("has the shape of a family", () => {
      assert.isTrue(Family.isFamily(family))
      for (const part of ["shape", "embed", "block", "head", "prefix", "ignored"] as const) {
        assert.isFunction(family[part], part)
      }
    })

    it.effect("outlines every tensor once, and nothing twice", () =>
      Effect.gen(function* () {
        const { config, outline } = yield* outlined
        const { catalog, shape, sites, transposed } = outline
        assert.strictEqual(new Set(sites.map(({ site }) => site)).size, sites.length)
        for (const { layer, name, shape, site, tensor } of sites) {
          const stored = catalog.get(tensor)!
          assert.deepStrictEqual(transposed.has(tensor) ? stored.toReversed() : stored, shape, site)
          assert.strictEqual(site, layer === undefined ? name : `${layer}.${name}`)
          if (layer !== undefined) assert.isTrue(tensor.startsWith(family.prefix(layer)))
        }
        // Every matrix is a site: nothing escapes a selector. Every layer has the same.
        const named = new Set(sites.map(({ tensor }) => tensor))
        for (const [tensor, dims] of catalog)
          assert.isTrue(dims.length === 1 || named.has(tensor) || NO_MATRIX.test(tensor), tensor)
        const inLayer = (n: number) =>
          sites.filter(({ layer }) => layer === n).map(({ fedBy, name, shape }) => ({ fedBy, name, shape }))
        for (let layer = 1; layer < shape.layers; layer++) assert.deepStrictEqual(inLayer(layer), inLayer(0))
        for (const tensor of catalog.keys()) assert.isFalse(outline.ignored.test(tensor), tensor)
        assert.isTrue(sites.some(({ kind }) => kind === "embedding") && sites.some(({ fedBy }) => fedBy !== undefined))
        // What a layer keeps of a sequence can be quantized, whatever it is.
        for (let layer = 0; layer < shape.layers; layer++)
          assert.isTrue(Family.heads(shape) !== undefined || outline.states.some((state) => state.layer === layer))
        // A config survives being stored.
        const stored = yield* Schema.encodeUnknownEffect(family.config)(config)
        const again = yield* Schema.decodeUnknownEffect(family.config)(JSON.parse(JSON.stringify(stored)))
        assert.deepStrictEqual({ ...Family.outline(family, again), rename: outline.rename }, outline)
      }),
    )

    layer(Pool.layer(2), { excludeTestServices: true })("runs", (it) => {
      it.effect("a random checkpoint: plain, quantized and observed", () =>
        Effect.gen(function* () {
          const { outline } = yield* outlined
          const root = yield* folder
          yield* Random.checkpoint(root, raw, outline)
          const score = (model: Model<never>) =>
            Effect.flatMap(
              Scoring.hiddenRows(Runner.make(model, false), requests, 64, () => Effect.void),
              (rows) => Scoring.scoreRows(model, rows, Scoring.targets(requests), undefined),
            )
          const grid = { symmetric: false, range: "fixed" } as const
          const linears = outline.sites.filter(({ kind }) => kind === "linear").map(({ site }) => site)
          const layers = Array.from({ length: outline.shape.layers }, (_, layer) => layer)
          const cached = Family.heads(outline.shape) === undefined ? [] : layers
          const activation = (bits: number): Activation => ({ kind: "dynamic", bits, ...grid })
          const cache = (bits: number): KeyValue => ({
            keys: { bits, ...grid },
            values: { bits, ...grid },
            group: Family.heads(outline.shape)?.dim ?? 1,
            point: "after-rope",
          })

          const plain = yield* open(root, family)
          const expected = yield* score(plain)
          assert.strictEqual(expected.logprob.length, Scoring.rowCount(requests))
          assert.isTrue(expected.logprob.every((x) => Number.isFinite(x) && x < 0))
          assert.isAbove(new Set(expected.logprob).size, 3)
          const states = (bits: number): { readonly [site: string]: State } =>
            Object.fromEntries(outline.states.map(({ dims, site }) => [site, { bits, ...grid, group: dims[0] }]))
          const changes: Array<Pick<Model<never>, "activations" | "keyValue" | "states">> = [
            ...linears.map((site) => ({ activations: { [site]: activation(2) }, keyValue: {} })),
            ...cached.map((layer) => ({ activations: {}, keyValue: { [layer]: cache(2) } })),
            ...Object.entries(states(2)).map(([site, state]) => ({
              activations: {},
              keyValue: {},
              states: { [site]: state },
            })),
          ]
          for (const change of changes) {
            const { logprob } = yield* score({ ...plain, ...change })
            assert.isTrue(logprob.every(Number.isFinite))
            assert.notDeepEqual(logprob, expected.logprob, `nothing came of ${JSON.stringify(change)}`)
          }
          // The finer the grids, the nearer to the model itself.
          const distance = (bits: number) =>
            Effect.map(
              score({
                ...plain,
                activations: Object.fromEntries(linears.map((site) => [site, activation(bits)])),
                keyValue: Object.fromEntries(cached.map((layer) => [layer, cache(bits)])),
                states: states(bits),
              }),
              ({ logprob }) => logprob.reduce((sum, x, i) => sum + Math.abs(x - expected.logprob[i]!), 0),
            )
          const [coarse, fine] = [yield* distance(3), yield* distance(8)]
          assert.isBelow(fine, coarse / 4)

          const seen = yield* Calibrating.calibrate(
            plain,
            [requests[0]!.tokens, requests[0]!.tokens],
            true,
            64,
            () => Effect.void,
          )
          const inBlocks = linears.filter((site) => /^\d/.test(site))
          assert.deepStrictEqual(
            [...seen.keys()].toSorted(),
            [
              ...inBlocks,
              ...cached.flatMap((layer) => [`${layer}.key`, `${layer}.key-before-rope`, `${layer}.value`]),
            ].toSorted(),
          )
          for (const { sums } of seen.values())
            assert.isTrue([...sums.min, ...sums.max, ...sums.sum4].every(Number.isFinite))
        }),
      )
    })
  })
}
