/**
 * A YAML file as plain values that remember where they were written.
 *
 * The language is what YAML 1.2 shares with JSON, with anchors, aliases and merge keys: no tags, no keys but strings, no
 * duplicate keys, no infinities. Aliases share one object, so a hostile file costs its own length and not its expansion.
 */
import { type Document, LineCounter, type Node, isAlias, isMap, isScalar, isSeq, parseDocument } from "yaml"
import type { Mistakes } from "./Mistakes.ts"
import { suggest } from "./Nearest.ts"

/** A place in a file, 1-based. For `--set` arguments, file `--set`, line: which argument, column: in the argument. */
export interface Position {
  readonly file: string
  readonly line: number
  readonly column: number
}

/** `$name` as a value: an edge to the stage of that name. */
export class Ref {
  readonly stage: string
  constructor(stage: string) {
    this.stage = stage
  }
}

export type Mapping = { readonly [key: string]: Value }
export type Value = null | boolean | number | string | Ref | ReadonlyArray<Value> | Mapping
export type Path = ReadonlyArray<string | number>

export const isList = (value: Value | undefined): value is ReadonlyArray<Value> => Array.isArray(value)
export const isMapping = (value: Value | undefined): value is Mapping =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Ref)

/** How an error message calls a value. */
export const describe = (value: Value | undefined): string =>
  value === undefined
    ? "nothing"
    : value === null
      ? "null"
      : value instanceof Ref
        ? `a reference ($${value.stage})`
        : isList(value)
          ? "a list"
          : isMapping(value)
            ? "a mapping"
            : typeof value === "string"
              ? `the text '${value.length > 40 ? `${value.slice(0, 40)}…` : value}'`
              : `${value}`

/** Where an entry of a list or mapping is written. In lists, `key` is where the entry is. */
export interface Place {
  readonly key: Position
  readonly value: Position
}

const places = new WeakMap<object, Map<string | number, Place>>()

/** Notes where an entry of a list or mapping is written. */
export const setPlace = (container: object, entry: string | number, place: Place): void => {
  const known = places.get(container)
  if (known === undefined) places.set(container, new Map([[entry, place]]))
  else known.set(entry, place)
}

export const placeOf = (container: object, entry: string | number): Place | undefined =>
  places.get(container)?.get(entry)

/** The place at the end of a path, or the nearest enclosing one that exists. */
export const placeAt = (root: Value, path: Path): Place | undefined => {
  let value = root
  let place: Place | undefined
  for (const step of path) {
    if (!isList(value) && !isMapping(value)) break
    const next = placeOf(value, step)
    if (next === undefined) break
    place = next
    value = (value as any)[step]
  }
  return place
}

const MAX_VALUES = 250_000
const MAX_DEPTH = 64

interface Size {
  readonly values: number
  readonly depth: number
}
const LEAF: Size = { values: 1, depth: 1 }
const sizes = new WeakMap<object, Size>()
const sizeOf = (value: Value): Size => (typeof value === "object" && value !== null && sizes.get(value)) || LEAF

/**
 * Notes a list's or mapping's size with everything shared counted as often as it is used, and says what is wrong with
 * it, if anything: aliases and variables can multiply a small file beyond every memory.
 */
export const measure = (container: ReadonlyArray<Value> | Mapping): string | undefined => {
  let values = 1
  let depth = 0
  for (const child of Object.values(container)) {
    const size = sizeOf(child)
    values += size.values
    depth = Math.max(depth, size.depth)
  }
  sizes.set(container, { values, depth: depth + 1 })
  if (values > MAX_VALUES) return `aliases and variables expand to more than ${MAX_VALUES} values here; repeat less`
  if (depth >= MAX_DEPTH) return `nested more than ${MAX_DEPTH} levels deep; flatten it`
  return undefined
}

const HINTS: { readonly [code: string]: string } = {
  TAB_AS_INDENT: "a tab cannot indent YAML; use spaces",
  BLOCK_AS_IMPLICIT_KEY:
    "a value cannot contain ': ' here; put it in quotes, or start a new line with the right indent",
  MULTIPLE_DOCS: "a study file holds one document; remove this and what follows",
  NON_STRING_KEY: "a key must be a plain word; lists, mappings, tags and aliases cannot be keys",
  RESOURCE_EXHAUSTION: "nested too deeply; flatten it",
  TAG_RESOLVE_FAILED: "tags are not part of the study language (nothing in a study is executed); remove it",
  BAD_DIRECTIVE: "directives are not part of the study language; remove this line",
}

/**
 * Reads YAML text that starts at `origin`. Mistakes are collected; the value is `undefined` where the text is not YAML
 * at all, and otherwise what could be understood.
 */
export const parse = (text: string, origin: Position, mistakes: Mistakes): Value | undefined => {
  const lines = new LineCounter()
  const document: Document.Parsed = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    stringKeys: true,
    resolveKnownTags: false,
    uniqueKeys: false, // checked below, with the line of the first
  })
  const position = (offset: number): Position => {
    const { line, col } = lines.linePos(offset)
    return { ...origin, line: origin.line + line - 1, column: line === 1 ? origin.column + col - 1 : col }
  }
  const syntax = document.errors[0] ?? document.warnings[0]
  if (syntax !== undefined) {
    // What follows the first syntax error is mostly its echo.
    const reason = HINTS[syntax.code] ?? `not YAML: ${syntax.message[0]!.toLowerCase()}${syntax.message.slice(1)}`
    const line = text.split("\n")[lines.linePos(syntax.pos[0]).line - 1] ?? ""
    const braces = line.includes("${") ? "; inside { } and [ ], write ${variables} in quotes" : ""
    mistakes.add(position(syntax.pos[0]), reason + braces)
    return undefined
  }
  const root = document.contents as Node | null
  return root === null ? null : convert(root, position, mistakes)
}

const OPEN = Symbol("being read")

const convert = (root: Node, position: (offset: number) => Position, mistakes: Mistakes): Value => {
  const anchors = new Map<string, Value | typeof OPEN>()
  const start = (node: Node) => position(node.range![0])

  const read = (node: Node): Value => {
    if (isAlias(node)) {
      const target = anchors.get(node.source)
      if (target !== undefined && target !== OPEN) return target
      mistakes.add(
        start(node),
        target === OPEN
          ? `*${node.source} stands inside &${node.source} itself`
          : `no anchor &${node.source} before this line; ${suggest(node.source, anchors.keys())}`,
      )
      return null
    }
    const anchor = (node as { readonly anchor?: string }).anchor
    if (anchor !== undefined) anchors.set(anchor, OPEN)
    const value = isMap(node) ? mapping(node.items) : isSeq(node) ? list(node.items as Array<Node>) : scalar(node)
    if (anchor !== undefined) anchors.set(anchor, value)
    if (typeof value === "object" && value !== null) {
      const excess = measure(value as Mapping)
      if (excess !== undefined) {
        mistakes.add(start(node), excess)
        return null
      }
    }
    return value
  }

  const scalar = (node: Node): Value => {
    const value = isScalar(node) ? node.value : undefined
    if (value === null || typeof value === "boolean") return value
    // One spelling of each character, so that what a key says of a text is what the stage is given.
    if (typeof value === "string") return value.normalize("NFC")
    if (typeof value !== "number" || !Number.isFinite(value)) {
      mistakes.add(start(node), "a number must be finite; write text in quotes")
    } else if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
      mistakes.add(start(node), `${(node as any).source} is too large to be exact; write it in quotes`)
    } else {
      return value
    }
    return null
  }

  const list = (items: ReadonlyArray<Node>): Value => {
    const value = items.map(read)
    items.forEach((item, index) => setPlace(value, index, { key: start(item), value: start(item) }))
    return value
  }

  const mapping = (items: ReadonlyArray<{ readonly key: unknown; readonly value: unknown }>): Value => {
    const value: Record<string, Value> = {}
    const merges: Array<{ readonly from: Value; readonly at: Position }> = []
    for (const item of items) {
      const key = item.key as Node & { readonly value: string; readonly type?: string }
      const name = key.value.normalize("NFC")
      const child = item.value as Node | null
      if (name === "<<" && key.type === "PLAIN" && child !== null) {
        merges.push({ from: read(child), at: start(child) })
      } else if (name === "__proto__") {
        mistakes.add(start(key), "'__proto__' cannot be a key")
      } else if (Object.hasOwn(value, name)) {
        mistakes.add(start(key), `'${name}' is already set on line ${placeOf(value, name)!.key.line}; keep one of them`)
      } else {
        value[name] = child === null ? null : read(child)
        setPlace(value, name, { key: start(key), value: child === null ? start(key) : start(child) })
      }
    }
    for (const { from, at } of merges) {
      for (const source of isList(from) ? from : [from]) {
        if (isMapping(source)) inherit(value, source)
        else mistakes.add(at, `'<<' merges mappings, but this is ${describe(source)}`)
      }
    }
    return value
  }
  return read(root)
}

/** Adds the entries that `value` does not have, with their places. */
const inherit = (value: Record<string, Value>, source: Mapping): void => {
  for (const [name, child] of Object.entries(source)) {
    if (Object.hasOwn(value, name)) continue
    value[name] = child
    const place = placeOf(source, name)
    if (place !== undefined) setPlace(value, name, place)
  }
}
