/** The bundled study of all architectures: every cell is computed, and every setting changes what the model says. */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createHash } from "node:crypto"
import { readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { Pool } from "../../src/compute/Pool.ts"
import * as Output from "../../src/engine/run/Output.ts"
import * as Plan from "../../src/engine/plan/Plan.ts"
import * as Run from "../../src/engine/run/Run.ts"
import { Store } from "../../src/engine/store/Store.ts"
import * as Locate from "../../src/engine/study/Locate.ts"
import * as Study from "../../src/engine/study/Study.ts"
import { pipelines, registry } from "../support/study.ts"
import * as Tiny from "../support/tinyFamilies.ts"
import { paths } from "../support/plugins.ts"

const families = paths("src/models", ".ts").map(([name]) => name)

describe("the checkpoints", () => {
  it("are one of each family, and small", () => {
    const folders = readdirSync(Tiny.root).filter((name) => statSync(join(Tiny.root, name)).isDirectory())
    assert.deepStrictEqual(folders.toSorted(), families)
    const sizes = readdirSync(Tiny.root, { recursive: true, encoding: "utf8" }).map(
      (file) => statSync(join(Tiny.root, file)).size,
    )
    assert.isBelow(
      sizes.reduce((sum, size) => sum + size, 0),
      1.5e6,
    )
  })
  for (const family of families) {
    it(`${family} is what the golden one is`, () => {
      const files = Tiny.files(family)
      assert.deepStrictEqual(readdirSync(join(Tiny.root, family)).toSorted(), Object.keys(files).toSorted())
      for (const [name, bytes] of Object.entries(files))
        assert.isTrue(readFileSync(join(Tiny.root, family, name)).equals(bytes), `${name}: npm run families`)
    })
  }
})

const sha256 = (path: string) => Effect.sync(() => createHash("sha256").update(readFileSync(path)).digest("hex"))

layer(Layer.merge(Pool.layer(2), Store.layerMemory), { excludeTestServices: true })("the study", (it) => {
  it.effect(
    "runs, and nothing is left as it was",
    () =>
      Effect.gen(function* () {
        const study = yield* Study.load(join(pipelines, "families.yaml"), { pipelines, set: [] })
        const plan = yield* Plan.make(study, {
          registry,
          fingerprint: sha256,
          digest: sha256,
          locate: Locate.make({ study: study.folder, pipelines }),
        })
        const runtime = () => ({ node: process.versions.node })
        const report = yield* Run.run(plan, { jobs: 2, keepGoing: true, fingerprint: sha256, runtime })
        const unfinished = plan.cells.flatMap((cell) => {
          const outcome = report.outcomes.get(cell)
          return outcome?.kind === "computed" || outcome?.kind === "found"
            ? []
            : [`${cell.id}: ${JSON.stringify(outcome)}`]
        })
        assert.deepStrictEqual(unfinished, [])

        const store = yield* Store
        /** Perplexities by model, and within it by setting. */
        const found = new Map<string, Map<string, number>>()
        for (const cell of plan.cells.filter(({ definition }) => definition.gives.kind === "scores")) {
          const { output } = report.traces.get(cell)!
          const value: any = yield* Output.decode(output, cell.definition.gives.schema, store.getDocument(output))
          const { source = "state", ...setting } = cell.coordinates
          const own = found.get(source) ?? new Map<string, number>()
          found.set(source, own)
          for (const { name, value: number } of value.metrics) {
            assert.isTrue(Number.isFinite(number), `${cell.id}: ${name}`)
            if (name === "perplexity") own.set(Object.values(setting).join(" "), number)
          }
        }
        assert.deepStrictEqual(
          [...found.keys()].toSorted(),
          [...families.map((family) => `dir:families/${family}`), "state"].toSorted(),
        )
        for (const [source, own] of found) {
          const count = source === "state" || source.endsWith("/mamba") ? 3 : 4
          assert.strictEqual(own.size, count, source)
          assert.strictEqual(new Set(own.values()).size, count, `${source}: ${JSON.stringify([...own])}`)
        }
      }),
    180_000,
  )
})
