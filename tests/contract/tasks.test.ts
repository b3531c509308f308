/** What every task in `src/tasks`, every scorer, every stage and every bundled study keeps to. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Items from "../../src/data/Items.ts"
import * as Locate from "../../src/engine/study/Locate.ts"
import * as Plan from "../../src/engine/plan/Plan.ts"
import { isStage } from "../../src/engine/Stage.ts"
import * as Study from "../../src/engine/study/Study.ts"
import { isScorer, type Scorer } from "../../src/tasks/Scorer.ts"
import * as Task from "../../src/tasks/Task.ts"
import { isDescription, modules, paths } from "../support/plugins.ts"
import { pipelines, registry } from "../support/study.ts"

const scorers = new Map((await modules("src/tasks")).map(({ name, value }) => [name, value]))
const stages = await modules("stages")
const locate = Locate.make({ study: pipelines, pipelines })

const sha256 = (path: string) => Effect.sync(() => createHash("sha256").update(readFileSync(path)).digest("hex"))

describe("scorers", () => {
  for (const [name, scorer] of scorers) {
    it(name, () => {
      assert.isTrue(isScorer(scorer))
      const { description, fields, needs } = scorer as Scorer<any>
      assert.isTrue(isDescription(description), description)
      assert.isAbove(Object.keys(fields).length, 0)
      assert.isFunction(needs)
    })
  }
})

/** Every `{field}` in any text of a task. */
const templates = (u: unknown): ReadonlyArray<string> =>
  typeof u === "string"
    ? Array.from(u.matchAll(/\{(\w+)\}/g), ([, field]) => field!)
    : typeof u === "object" && u !== null
      ? Object.values(u).flatMap(templates)
      : []

describe("tasks", () => {
  for (const [name, file] of paths("src/tasks", ".yaml")) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const { data, description, kind, version } = yield* Task.readCommon(file)
        const scorer = scorers.get(kind)
        assert.isTrue(isScorer(scorer), `kind ${kind}`)
        const task = yield* Task.readTask(file, scorer as Scorer<any>)
        assert.isTrue(isDescription(description), description)
        assert.isAtLeast(version, 1)
        const items = yield* Items.read(yield* locate.resolve(data.source), data.limit)
        const { extract: _, ...texts } = task as { readonly extract?: string }
        const fields = new Set(templates(texts))
        if (kind !== "perplexity") assert.isAbove(fields.size, 0)
        for (const [i, item] of items.entries()) for (const field of fields) assert.property(item, field, `item ${i}`)
        // No line of the data is there twice: it would count twice.
        assert.strictEqual(new Set(items.map((item) => JSON.stringify(item))).size, items.length)
      }),
    )
  }
})

describe("stages", () => {
  for (const { name, value } of stages) {
    it(name, () => {
      if (!isStage(value)) return assert.fail("no stage")
      assert.isTrue(isDescription(value.description), value.description)
      assert.isTrue(Number.isInteger(value.version) && value.version > 0)
      const names = [...Object.keys(value.needs), ...Object.keys(value.params), ...Object.keys(value.hints)]
      assert.strictEqual(new Set(names).size, names.length, "one name for two things")
      for (const label of Object.keys(value.labels ?? {})) assert.property(value.params, label)
      for (const field of Object.values({ ...value.params, ...value.hints })) assert.isTrue(Schema.isSchema(field))
    })
  }
})

describe("bundled studies", () => {
  for (const [name] of paths("pipelines", ".yaml")) {
    it.effect(`${name} plans without a mistake`, () =>
      Effect.gen(function* () {
        const study = yield* Study.load(join(pipelines, `${name}.yaml`), { pipelines, set: [] })
        const plan = yield* Plan.make(study, { registry, fingerprint: sha256, digest: sha256, locate })
        assert.isAbove(plan.cells.length, 1)
        assert.isTrue(isDescription(study.description), "a description in one line")
        for (const cell of plan.cells) {
          const outlined = yield* Effect.result(plan.outline(cell))
          if (Result.isFailure(outlined)) assert.fail(outlined.failure.message)
        }
      }),
    )
  }
})
