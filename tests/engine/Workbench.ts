/** Studies of arithmetic toys, planned and run against a store: what the engine's tests are made with. */
import * as Effect from "effect/Effect"
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Fingerprint from "../../src/engine/plan/Fingerprint.ts"
import * as Locate from "../../src/engine/study/Locate.ts"
import * as Plan from "../../src/engine/plan/Plan.ts"
import * as Progress from "../../src/engine/run/Progress.ts"
import * as Registry from "../../src/engine/plan/Registry.ts"
import * as Run from "../../src/engine/run/Run.ts"
import { Store } from "../../src/engine/store/Store.ts"
import * as Study from "../../src/engine/study/Study.ts"

export const stages = new URL("./toys/Arithmetic", import.meta.url).pathname
const pipelines = new URL("../../pipelines", import.meta.url).pathname
const registry = Registry.load<never>(stages)

/** A folder of its own for as long as the test lasts. */
export const folder = Effect.acquireRelease(
  Effect.sync(() => realpathSync(mkdtempSync(join(tmpdir(), "assay-")))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true })),
)

/** @param yaml the entries under `stages` */
export const plan = Effect.fnUntraced(function* (
  folder: string,
  yaml: string,
  name = "toys",
  set: ReadonlyArray<string> = [],
) {
  const store = yield* Store
  const file = join(folder, `${name}.yaml`)
  writeFileSync(file, `study: ${name}\nstages:\n${yaml.trimEnd().replace(/^/gm, "  ")}\n`)
  const study = yield* Study.load(file, { pipelines, set })
  return yield* Plan.make(study, {
    registry,
    fingerprint: Fingerprint.make({ get: store.recall, set: store.remember }),
    digest: store.fileDigest,
    locate: Locate.make({ study: study.folder, pipelines }),
  })
})

export const run = <R>(plan: Plan.Plan<R>, options: Partial<Run.Options<R>> = {}) =>
  Run.run(plan, {
    jobs: 2,
    keepGoing: false,
    fingerprint: () => Effect.succeed("0".repeat(64)),
    runtime: () => ({ node: process.versions.node }),
    ...options,
  })

/** Ids of the cells with that outcome, in plan order. */
export const having = <R>(plan: Plan.Plan<R>, report: Run.Report<R>, kind: string) =>
  plan.cells.filter((cell) => report.outcomes.get(cell)?.kind === kind).map(({ id }) => id)

/** What happened, collected. */
export const recorder = () => {
  const events: Array<Progress.Event> = []
  return { events, provide: Effect.provideService(Progress.Progress, { emit: (event) => events.push(event) }) }
}
