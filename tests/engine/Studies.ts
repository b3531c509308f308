/** Studies in a folder of their own: files by name, the study in `study.yaml`, toy stages unless others are given. */
import * as Effect from "effect/Effect"
import { hash } from "node:crypto"
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Locate from "../../src/engine/study/Locate.ts"
import * as Plan from "../../src/engine/plan/Plan.ts"
import type { StudyErrors } from "../../src/engine/Problem.ts"
import * as Registry from "../../src/engine/plan/Registry.ts"
import * as Study from "../../src/engine/study/Study.ts"

export const toys = fileURLToPath(new URL("./toys/rounding", import.meta.url))

export const folder = (files: { readonly [name: string]: string }) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const root = realpathSync(mkdtempSync(join(tmpdir(), "study-")))
      for (const [name, text] of Object.entries(files)) {
        mkdirSync(dirname(join(root, name)), { recursive: true })
        writeFileSync(join(root, name), text)
      }
      return root
    }),
    (root) => Effect.sync(() => rmSync(root, { recursive: true })),
  )

/** File names in messages are shortened to their place in the study's folder. */
const shorten = <A, R>(root: string, effect: Effect.Effect<A, StudyErrors, R>) =>
  Effect.mapError(effect, (errors) => errors.errors.map(({ message }) => message.replaceAll(`${root}/`, "")))

export const study = Effect.fnUntraced(function* (text: string, set: ReadonlyArray<string> = [], files = {}) {
  const root = yield* folder({ "studies/study.yaml": text, ...files })
  const options = { pipelines: join(root, "pipelines"), set }
  return yield* shorten(`${root}/studies`, Study.load(join(root, "studies/study.yaml"), options))
})

export interface Changes {
  readonly set?: ReadonlyArray<string>
  readonly files?: { readonly [name: string]: string }
  readonly fingerprint?: Plan.Options<never>["fingerprint"]
  /** Is told of every file that is digested. */
  readonly digested?: (path: string) => void
  readonly registry?: Registry.Registry<never>
}

export const plan = Effect.fnUntraced(function* (text: string, changes: Changes = {}) {
  const root = yield* folder({ "studies/study.yaml": text, ...changes.files })
  const pipelines = join(root, "pipelines")
  const file = join(root, "studies/study.yaml")
  const planned = Effect.flatMap(Study.load(file, { pipelines, set: changes.set ?? [] }), (study) =>
    Plan.make(study, {
      registry: changes.registry ?? Registry.load<never>(toys),
      fingerprint: changes.fingerprint ?? ((module) => Effect.succeed(`code of ${module.slice(toys.length + 1)}`)),
      digest: (path) =>
        Effect.sync(() => {
          changes.digested?.(path)
          return hash("sha256", readFileSync(path))
        }),
      locate: Locate.make({ study: study.folder, pipelines }),
    }),
  )
  return yield* shorten(`${root}/studies`, planned)
})

/** The messages of a study that cannot be planned. */
export const mistakes = (text: string, changes?: Changes) => Effect.flip(plan(text, changes))
export const ids = (planned: Plan.Plan<never>) => planned.cells.map(({ id }) => id)
