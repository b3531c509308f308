/** A study file with the files that it includes under it: each is read once, children before parents. */
import * as Result from "effect/Result"
import { readFileSync } from "node:fs"
import { basename, dirname, isAbsolute, join, resolve } from "node:path"
import {
  type Mapping,
  type Position,
  type Value,
  describe,
  isList,
  isMapping,
  parse,
  placeOf,
  setPlace,
} from "./Document.ts"
import { confine } from "./Locate.ts"
import type { Mistakes } from "./Mistakes.ts"
import { suggest } from "./Nearest.ts"

const TOP = ["study", "seed", "description", "vars", "include", "stages"]

export interface Merged {
  /** The file's own top level; `stages` and `vars` beside it have the included files' under them. */
  readonly top: Mapping
  readonly stages: Mapping
  readonly vars: Mapping
}

export class Files {
  readonly seen: Array<string> = []
  readonly #open: Array<string> = []
  readonly #read = new Map<string, Merged | undefined>()
  readonly #folder: string
  readonly #pipelines: string
  readonly #mistakes: Mistakes

  constructor(folder: string, pipelines: string, mistakes: Mistakes) {
    this.#folder = folder
    this.#pipelines = pipelines
    this.#mistakes = mistakes
  }

  /** `shown` is the path that messages show, `at` the place that asked for the file. */
  read(path: string, shown: string, at: Position): Merged | undefined {
    if (this.#open.includes(path)) {
      const circle = [...this.#open.slice(this.#open.indexOf(path)), path].map((_) => basename(_))
      this.#mistakes.add(at, `files include each other in a circle: ${circle.join(" -> ")}`)
      return undefined
    }
    if (this.#read.has(path)) return this.#read.get(path)
    const text = Result.try(() => readFileSync(path, "utf8"))
    if (Result.isFailure(text)) {
      this.#mistakes.add(at, `cannot read ${shown}: ${(text.failure as Error).message}`)
      return undefined
    }
    this.seen.push(path)
    this.#open.push(path)
    const merged = this.#merge(text.success, path, shown)
    this.#open.pop()
    this.#read.set(path, merged)
    return merged
  }

  #merge(text: string, path: string, shown: string): Merged | undefined {
    const start = { file: shown, line: 1, column: 1 }
    const top = parse(text, start, this.#mistakes)
    if (top === undefined) return undefined
    if (!isMapping(top)) {
      this.#mistakes.add(start, `a study is a mapping with 'study' and 'stages', not ${describe(top)}`)
      return undefined
    }
    for (const key of Object.keys(top)) {
      if (!TOP.includes(key)) this.#mistakes.add(placeOf(top, key)!.key, `unknown key '${key}'; ${suggest(key, TOP)}`)
    }
    const includes = this.#includes(top, path, shown)
    return {
      top,
      stages: this.#layer(
        "stages",
        top,
        includes.map((_) => _.stages),
      ),
      vars: this.#layer(
        "vars",
        top,
        includes.map((_) => _.vars),
      ),
    }
  }

  #includes(top: Mapping, path: string, shown: string): ReadonlyArray<Merged> {
    const value = top["include"] ?? []
    const names = isList(value) ? value : [value]
    return names.flatMap((name, i) => {
      const at = (isList(value) ? placeOf(value, i) : placeOf(top, "include"))!.value
      if (typeof name !== "string" || isAbsolute(name)) {
        this.#mistakes.add(at, `'include' takes paths relative to this file, or bundled:<file>, not ${describe(name)}`)
        return []
      }
      const bundled = name.startsWith("bundled:")
      const target = bundled ? resolve(this.#pipelines, name.slice(8)) : resolve(dirname(path), name)
      const found = confine(target, [this.#folder, this.#pipelines], name)
      if ("reason" in found) this.#mistakes.add(at, found.reason)
      else return this.read(target, bundled ? target : join(dirname(shown), name), at) ?? []
      return []
    })
  }

  /** Included entries in order, this file's own over them. Two included files must not disagree in silence. */
  #layer(key: "stages" | "vars", top: Mapping, included: ReadonlyArray<Mapping>): Mapping {
    const value = top[key] ?? {}
    if (!isMapping(value)) {
      this.#mistakes.add(placeOf(top, key)!.value, `'${key}' must be a mapping, not ${describe(value)}`)
    }
    const own = isMapping(value) ? value : {}
    const layer: Record<string, Value> = {}
    for (const source of [...included, own]) {
      for (const [name, value] of Object.entries(source)) {
        const place = placeOf(source, name)!
        const before = placeOf(layer, name)?.key
        if (before !== undefined && before !== place.key && !Object.hasOwn(own, name)) {
          const first = `${before.file}:${before.line}`
          this.#mistakes.add(place.key, `'${name}' is also defined in ${first}; define it in the including file`)
        }
        layer[name] = value
        setPlace(layer, name, place)
      }
    }
    return layer
  }
}
