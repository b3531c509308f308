/**
 * Plug-ins by name: the folder is the registry. `src/methods/rtn.ts` is `method: rtn`; a lower-case file name is a
 * plug-in, an upper-case one is called by code. A typo's error lists what exists.
 */
import * as Effect from "effect/Effect"
import { readdirSync } from "node:fs"
import { basename, extname } from "node:path"
import { fileURLToPath } from "node:url"
import { suggest } from "../src/engine/study/Nearest.ts"
import { Problem } from "../src/engine/Problem.ts"

export type Folder = "methods" | "formats" | "models" | "tasks"

const folderUrl = (folder: Folder) => new URL(`../src/${folder}/`, import.meta.url)
const suffix = { methods: ".ts", formats: ".ts", models: ".ts", tasks: ".yaml" } as const

/** Names of a folder's plug-ins, sorted. */
export const names = (folder: Folder, extension: string = suffix[folder]): ReadonlyArray<string> =>
  readdirSync(folderUrl(folder))
    .filter((file) => file.endsWith(extension) && /^[a-z]/.test(file))
    .map((file) => file.slice(0, -extension.length))
    .toSorted()

/** Absolute path of a plug-in's file; `at` is the parameter that names it. */
export const path = (
  folder: Folder,
  name: string,
  at: ReadonlyArray<string | number>,
  extension: string = suffix[folder],
): Effect.Effect<string, Problem> => {
  const known = names(folder, extension)
  return known.includes(name)
    ? Effect.succeed(fileURLToPath(new URL(name + extension, folderUrl(folder))))
    : Effect.fail(
        new Problem({ path: [...at], reason: `no ${folder.slice(0, -1)} '${name}'; ${suggest(name, known)}` }),
      )
}

/** A plug-in's name, from the path of its file. */
export const nameOf = (file: string): string => basename(file, extname(file))

/** URL of a plug-in known to exist, for worker threads. */
export const url = (folder: Folder, name: string): string => new URL(`${name}.ts`, folderUrl(folder)).href

/** The default export of a plug-in known to exist. */
export const load = <A>(file: string, is: (u: unknown) => u is A): Effect.Effect<A> =>
  Effect.promise(async () => {
    const module = await import(file)
    if (!is(module.default)) throw new Error(`${file}: its default export is not what this folder holds`)
    return module.default
  })
