/**
 * Fingerprint of a module's code: its own module closure and the versions of the packages that it imports.
 *
 * Static imports, literal dynamic imports and literal `new URL("…", import.meta.url)` are followed; what is not code is
 * taken by its bytes. Node's built-ins count for nothing. A module found by a computed import is not followed: the stage
 * names it among its `plugins`.
 */
import * as Effect from "effect/Effect"
import { hash } from "node:crypto"
import { type BigIntStats, readFileSync, statSync } from "node:fs"
import { isBuiltin } from "node:module"
import { dirname, extname, join, relative } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { canonical, sha256 } from "./Key.ts"
import { type Parsed, parse } from "./Module.ts"
import { StageFailure } from "../Problem.ts"

/** What stands behind a fingerprint. */
export interface Closure {
  /** Digest of each file's code, by absolute path; `null` where an asset is missing. */
  readonly files: { readonly [path: string]: string | null }
  /** `name@version` of the packages that it imports. */
  readonly packages: ReadonlyArray<string>
}

/** Where per-file results are remembered between processes. Losing an entry costs time, nothing else. */
export interface Cache {
  readonly get: (key: string) => string | undefined
  readonly set: (key: string, value: string) => void
}

interface Linked {
  /** `null` where an asset is missing. */
  readonly digest: string | null
  /** Absolute paths of the modules and assets that it finds by URL. */
  readonly assets: ReadonlyArray<string>
  /** Absolute path of each module that it imports, which must be there, by how it names it. */
  readonly modules: { readonly [specifier: string]: string }
  /** `name@version` of the packages that it imports. */
  readonly packages: ReadonlyArray<string>
}

/** Bump when `Module.parse` reads the same text differently. */
const FORMAT = "fingerprint/1"
const TYPESCRIPT = new Set([".ts", ".mts", ".cts"])
const JAVASCRIPT = new Set([".js", ".mjs", ".cjs"])
/** A file touched a moment ago may change again without its time stamps showing it. */
const RACY = 2_000n
/** Milliseconds of work between two turns of the event loop. */
const PATIENCE = 10

/**
 * Fingerprint of a module by absolute path. Each file is looked at once per instance: make one for each plan.
 *
 * @param note is told what stands behind each fingerprint.
 */
export const make = (
  cache: Cache,
  note: (fingerprint: string, closure: Closure) => void = () => {},
): ((module: string) => Effect.Effect<string, StageFailure>) => {
  const files = new Map<string, Parsed | undefined>()
  const versions = new Map<string, string>()
  const links = new Map<string, Linked>()
  const fingerprints = new Map<string, string>()

  const remembered = <A>(path: string, kind: string, fresh: (bytes: Buffer) => A): A | undefined => {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
    if (stat?.isFile() !== true) return undefined
    const key = `${FORMAT} ${kind} ${stateOf(stat)}`
    const known = cache.get(key)
    if (known !== undefined) return JSON.parse(known) as A
    const value = fresh(readFileSync(path))
    if (BigInt(Date.now()) - stat.mtimeMs > RACY) cache.set(key, JSON.stringify(value))
    return value
  }

  const read = (path: string): Parsed | undefined => {
    if (files.has(path)) return files.get(path)
    const extension = extname(path)
    const kind = TYPESCRIPT.has(extension) ? "typescript" : JAVASCRIPT.has(extension) ? "javascript" : "bytes"
    const parsed = remembered(path, kind, (bytes): Parsed =>
      kind === "bytes"
        ? { digest: hash("sha256", bytes), imports: [], urls: [] }
        : parse(bytes.toString("utf8"), kind === "typescript"),
    )
    files.set(path, parsed)
    return parsed
  }

  /** `name@version` of the package that a bare specifier leads to, as Node would find it. */
  const versionOf = (specifier: string, from: string): string => {
    const name = specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/")
    for (let folder = dirname(from); ; folder = dirname(folder)) {
      const manifest = join(folder, "node_modules", name, "package.json")
      const known = versions.get(manifest)
      if (known !== undefined) return known
      const version = remembered(
        manifest,
        "version",
        (bytes) => `${name}@${JSON.parse(bytes.toString("utf8")).version}`,
      )
      if (version !== undefined) {
        versions.set(manifest, version)
        return version
      }
      if (folder === dirname(folder)) throw new Error(`package '${name}', imported by ${from}, is not installed`)
    }
  }

  /** What a file leads to, looked up once however many modules have it in their closure. */
  const link = (path: string): Linked => {
    const known = links.get(path)
    if (known !== undefined) return known
    const { digest, imports, urls } = read(path) ?? { digest: null, imports: [], urls: [] }
    // A folder or another host is no code of ours.
    const own = urls.filter((url) => !url.endsWith("/") && !/^[a-z][a-z\d+.-]*:/i.test(url))
    const modules: Record<string, string> = {}
    const packages: Array<string> = []
    for (const specifier of imports) {
      if (isBuiltin(specifier)) continue
      if (/^(\.|\/|file:)/.test(specifier)) modules[specifier] = resolveFrom(specifier, path)
      else packages.push(versionOf(specifier, path))
    }
    const linked = { digest, assets: own.map((url) => resolveFrom(url, path)), modules, packages }
    links.set(path, linked)
    return linked
  }

  const attempt = <A>(module: string, body: () => A): Effect.Effect<A, StageFailure> =>
    Effect.try({
      try: body,
      catch: (cause) =>
        new StageFailure({ reason: `cannot fingerprint ${module}: ${cause instanceof Error ? cause.message : cause}` }),
    })

  const walk = Effect.fnUntraced(function* (module: string) {
    const files: Record<string, string | null> = {}
    const packages = new Set<string>()
    const imports = new Map<string, string>()
    let since = performance.now()
    // Grows while it is walked, and ends when no file leads to a new one.
    const paths = new Set([module])
    for (const path of paths) {
      const linked = yield* attempt(module, () => link(path))
      files[path] = linked.digest
      for (const asset of linked.assets) paths.add(asset)
      for (const [specifier, target] of Object.entries(linked.modules)) {
        paths.add(target)
        imports.set(target, `'${specifier}', imported by ${path},`)
      }
      for (const name of linked.packages) packages.add(name)
      if (performance.now() - since > PATIENCE) {
        yield* Effect.yieldNow
        since = performance.now()
      }
    }
    yield* attempt(module, () => {
      if (files[module] === null) throw new Error("no such file")
      for (const [path, found] of imports) if (files[path] === null) throw new Error(`${found} does not exist`)
    })
    return { files, packages: [...packages].toSorted() } satisfies Closure
  })

  return Effect.fnUntraced(function* (module) {
    const known = fingerprints.get(module)
    if (known !== undefined) return known
    const closure = yield* walk(module)
    const contents = Object.entries(closure.files).map(
      // Named from the module, so that the same code elsewhere on disk is the same code.
      ([path, digest]) => [relative(dirname(module), path).replaceAll("\\", "/"), digest] as const,
    )
    const fingerprint = sha256(canonical(["code/1", contents.toSorted(byPath), closure.packages]))
    fingerprints.set(module, fingerprint)
    note(fingerprint, closure)
    return fingerprint
  })
}

const byPath = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]) => (a < b ? -1 : 1)

const stateOf = ({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats) => `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`

const resolveFrom = (specifier: string, from: string): string => fileURLToPath(new URL(specifier, pathToFileURL(from)))
