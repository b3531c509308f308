/** What stands behind a code fingerprint, file by file, so that a change can be told by name. */
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { findPackageJSON, isBuiltin } from "node:module"
import { fileURLToPath, pathToFileURL } from "node:url"
import { parse } from "./Module.ts"
import type { Service as Store } from "../store/Store.ts"

export interface Closure {
  /** Digest of each file's code, by absolute path. */
  readonly files: { readonly [path: string]: string }
  /** Version of each package, by name. */
  readonly packages: { readonly [name: string]: string }
}

const isOwn = (specifier: string) => /^(\.|\/|file:)/.test(specifier)

const walk = (module: string): Closure => {
  const files: Record<string, string> = {}
  const packages: Record<string, string> = {}
  const queue = new Set([module])
  // A set that grows while it is walked.
  for (const path of queue) {
    if (!/\.[mc]?[jt]s$/.test(path)) continue
    const { digest, imports, urls } = parse(readFileSync(path, "utf8"), /\.[mc]?ts$/.test(path))
    files[path] = digest
    for (const target of [...imports.filter(isOwn), ...urls.filter((url) => !url.endsWith("/"))])
      queue.add(fileURLToPath(new URL(target, pathToFileURL(path))))
    for (const specifier of imports) {
      if (isOwn(specifier) || isBuiltin(specifier)) continue
      const manifest = findPackageJSON(specifier, pathToFileURL(path))
      const { name, version } = manifest ? JSON.parse(readFileSync(manifest, "utf8")) : {}
      if (name !== undefined) packages[name] = version
    }
  }
  return { files, packages }
}

const nameOf = (code: string) => `closure ${code}`

export const read = (store: Store, code: string): Closure | undefined => {
  const text = store.recall(nameOf(code))
  return text === undefined ? undefined : (JSON.parse(text) as Closure)
}

/** Fingerprints as before, and each new one is remembered with what is behind it. */
export const remembering =
  <E, R>(store: Store, fingerprint: (module: string) => Effect.Effect<string, E, R>) =>
  (module: string): Effect.Effect<string, E, R> =>
    Effect.tap(fingerprint(module), (code) =>
      Effect.sync(() => {
        if (store.recall(nameOf(code)) === undefined) store.remember(nameOf(code), JSON.stringify(walk(module)))
      }),
    )

/** Names of what differs between two fingerprints; empty where that was not remembered. */
export const changes = (store: Store, before: string, after: string): ReadonlyArray<string> => {
  const [old, now] = [read(store, before), read(store, after)]
  if (old === undefined || now === undefined) return []
  const names = (part: keyof Closure) =>
    [...new Set([...Object.keys(old[part]), ...Object.keys(now[part])])].filter(
      (name) => old[part][name] !== now[part][name],
    )
  const versions = names("packages").map(
    (name) => `${name} ${old.packages[name] ?? "(none)"} -> ${now.packages[name] ?? "(none)"}`,
  )
  return [...names("files"), ...versions]
}
