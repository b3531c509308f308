/** Stages by path: `stages/quantize.ts` is `use: quantize`. The folder is the registry; there is no list to edit. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { suggest } from "../study/Nearest.ts"
import * as Stage from "../Stage.ts"

/** No such stage, or a file there that is none. */
export class BadStage extends Schema.TaggedError<BadStage>()("BadStage", {
  use: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return this.reason
  }
}

export interface Entry<R> {
  readonly use: string
  /** The stage's module, absolute. */
  readonly file: string
  readonly stage: Stage.Any<R>
}

export interface Registry<R> {
  /** Every stage there is, sorted. Reads the folder on first use only. */
  readonly names: () => ReadonlyArray<string>
  /** Imports the stage on first use. */
  readonly get: (use: string) => Effect.Effect<Entry<R>, BadStage>
}

/** Modules named in lower case are stages; `PascalCase.ts` beside them is code that stages share. */
const NAME = /^[a-z][a-z0-9-]*(\/[a-z][a-z0-9-]*)*$/

/** The stages of a folder. `R` is what their work may ask for; nothing checks it, so name it where layers are provided. */
export const load = <R>(root: string): Registry<R> => {
  const loaded = new Map<string, Entry<R>>()
  let listed: ReadonlyArray<string> | undefined
  const names = () =>
    (listed ??= readdirSync(root, { recursive: true, encoding: "utf8" })
      .map((file) => file.replaceAll("\\", "/"))
      .filter((file) => file.endsWith(".ts") && NAME.test(file.slice(0, -3)))
      .map((file) => file.slice(0, -3))
      .toSorted())

  const get = Effect.fnUntraced(function* (use: string): Effect.fn.Return<Entry<R>, BadStage> {
    const known = loaded.get(use)
    if (known !== undefined) return known
    const file = join(root, `${use}.ts`)
    if (!NAME.test(use) || !existsSync(file)) {
      return yield* new BadStage({ use, reason: `no stage kind '${use}'; ${suggest(use, names())}` })
    }
    const module = yield* Effect.tryPromise({
      try: () => import(pathToFileURL(file).href) as Promise<{ readonly default?: unknown }>,
      catch: (cause) => new BadStage({ use, reason: `stage kind '${use}' does not load: ${String(cause)}` }),
    })
    if (!Stage.isStage(module.default)) {
      return yield* new BadStage({ use, reason: `${file} has no stage as its default export; use Stage.make` })
    }
    const entry: Entry<R> = { use, file, stage: module.default }
    loaded.set(use, entry)
    return entry
  })
  return { names, get }
}
