/** Where files named in a study are: a study may read its own folder and what comes with the product, and says so. */
import * as Effect from "effect/Effect"
import { existsSync, realpathSync, statSync } from "node:fs"
import { dirname, isAbsolute, relative, resolve, sep } from "node:path"
import { Problem } from "../Problem.ts"
import type * as Stage from "../Stage.ts"

const inside = (root: string, path: string): boolean => {
  const way = relative(root, path)
  return way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way)
}

/** A path that was found, with links followed, or what is wrong with it. */
export type Found = { readonly path: string } | { readonly reason: string }

/** `path` (absolute) if it exists and stays within one of the folders, by its name and after following links. */
export const confine = (path: string, folders: ReadonlyArray<string>, written: string): Found => {
  if (!folders.some((folder) => inside(folder, path))) {
    return {
      reason: `'${written}' leads out of ${folders.join(" and ")}; move the file there, or write an absolute path`,
    }
  }
  if (!existsSync(path)) return { reason: `'${written}' does not exist (looked for ${path})` }
  const real = realpathSync(path)
  return folders.some((folder) => existsSync(folder) && inside(realpathSync(folder), real))
    ? { path: real }
    : { reason: `'${written}' is a symbolic link to ${real}, outside of ${folders.join(" and ")}` }
}

/** Without a connection. */
const nowhere: Stage.Locate["remote"] = (source) =>
  Effect.fail(new Problem({ path: [], reason: `'${source}' is elsewhere, and nothing is fetched here` }))

/** Paths as stages take them; `roots.study` is the folder of the study file, `roots.pipelines` the product's. */
export const make = (
  roots: { readonly study: string; readonly pipelines: string },
  remote: Stage.Locate["remote"] = nowhere,
): Stage.Locate => ({
  remote,
  resolve: (source) =>
    Effect.suspend(() => {
      const found = find(source, roots)
      return "path" in found ? Effect.succeed(found.path) : Effect.fail(new Problem({ path: [], reason: found.reason }))
    }),
})

const find = (source: string, roots: { readonly study: string; readonly pipelines: string }): Found => {
  const [, scheme, path] = /^(bundled|file|dir):(.*)$/.exec(source) ?? ["", "", source]
  if (path === "") return { reason: `'${source}' names no file` }
  if (scheme === "bundled") return confine(resolve(roots.pipelines, path!), [roots.pipelines], source)
  if (!isAbsolute(path!)) return confine(resolve(roots.study, path!), [roots.study], source)
  // An absolute path is the writer's own decision; a link or '..' in it is more likely a trap than a wish.
  if (path!.split(/[\\/]/).includes("..")) return { reason: `'${source}' has '..' in an absolute path; write it out` }
  const folder = statSync(path!, { throwIfNoEntry: false })?.isDirectory() === true ? path! : dirname(path!)
  return confine(path!, [folder], source)
}
