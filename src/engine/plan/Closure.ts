/** What stands behind a code fingerprint, file by file, remembered so that a change can be told by name. */
import type { Closure } from "./Fingerprint.ts"
import type { Service as Store } from "../store/Store.ts"

const nameOf = (code: string) => `closure ${code}`

const read = (store: Store, code: string): Closure | undefined => {
  const text = store.recall(nameOf(code))
  return text === undefined ? undefined : (JSON.parse(text) as Closure)
}

/** Remembers what is behind a new fingerprint. */
export const remember =
  (store: Store) =>
  (code: string, closure: Closure): void => {
    if (store.recall(nameOf(code)) === undefined) store.remember(nameOf(code), JSON.stringify(closure))
  }

/** The version of each package by name. */
const versions = (closure: Closure): { readonly [name: string]: string } =>
  Object.fromEntries(
    closure.packages.map((it) => [it.slice(0, it.lastIndexOf("@")), it.slice(it.lastIndexOf("@") + 1)]),
  )

/** The packages that the code behind a fingerprint computes with; empty where that was not remembered. */
export const packages = (store: Store, code: string): { readonly [name: string]: string } => {
  const closure = read(store, code)
  return closure === undefined ? {} : versions(closure)
}

/** Names of what differs between two fingerprints; empty where that was not remembered. */
export const changes = (store: Store, before: string, after: string): ReadonlyArray<string> => {
  const [old, now] = [read(store, before), read(store, after)]
  if (old === undefined || now === undefined) return []
  const differing = <A>(a: { readonly [name: string]: A }, b: { readonly [name: string]: A }) =>
    [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((name) => a[name] !== b[name])
  const [from, to] = [versions(old), versions(now)]
  const packages = differing(from, to).map((name) => `${name} ${from[name] ?? "(none)"} -> ${to[name] ?? "(none)"}`)
  return [...differing(old.files, now.files), ...packages]
}
