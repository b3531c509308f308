/** A study file made into a plan, with what runs and explanations need beside it. */
import * as Effect from "effect/Effect"
import { existsSync } from "node:fs"
import { resolve } from "node:path"
import * as Closure from "../engine/plan/Closure.ts"
import * as Fingerprint from "../engine/plan/Fingerprint.ts"
import * as Locate from "../engine/study/Locate.ts"
import * as Plan from "../engine/plan/Plan.ts"
import * as Registry from "../engine/plan/Registry.ts"
import { Store } from "../engine/store/Store.ts"
import * as Study from "../engine/study/Study.ts"
import { CallError } from "./CallError.ts"
import * as Product from "./Product.ts"
import { Remote } from "./Remote.ts"
import type { Services } from "./Services.ts"

export interface Request {
  readonly study: string
  readonly set: ReadonlyArray<string>
  /** Refuse sources elsewhere that the study's lock does not pin. */
  readonly frozen: boolean
}

export const open = Effect.fn("Workspace.open")(function* ({ frozen, study: path, set }: Request) {
  const store = yield* Store
  const remote = yield* Remote
  const file = resolve(path)
  if (!existsSync(file)) return yield* new CallError({ reason: `there is no study file ${path}` })
  const { pipelines } = Product
  const study = yield* Study.load(file, { pipelines, set })
  const fingerprint = Fingerprint.make({ get: store.recall, set: store.remember }, Closure.remember(store))
  const plan = yield* Plan.make(study, {
    registry: Registry.load<Services>(Product.stages),
    fingerprint,
    digest: store.fileDigest,
    locate: Locate.make({ study: study.folder, pipelines }, remote.files({ study: file, frozen })),
  })
  const runtime = (code: string) => ({ node: process.versions.node, ...Closure.packages(store, code) })
  return { store, plan, fingerprint, runtime }
})
