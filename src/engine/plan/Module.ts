/**
 * What a source file means to a fingerprint: a digest of its syntax tree and the modules that it leads to.
 *
 * The tree has no comments, no white space, no types, no quotes and no positions, so formatting changes nothing, while
 * any change that can be seen at run time does. Type-only imports vanish with the types.
 */
import type { AnyNode, Program } from "acorn"
import * as Result from "effect/Result"
import { createRequire, stripTypeScriptTypes } from "node:module"
import process from "node:process"
import { sha256 } from "./Key.ts"

export interface Parsed {
  readonly digest: string
  /** Import specifiers, static or literal dynamic. */
  readonly imports: ReadonlyArray<string>
  /** Literal `new URL("../x", import.meta.url)`: a worker or an asset. */
  readonly urls: ReadonlyArray<string>
}

/** Reads a module's text. A text that is no JavaScript after its types are stripped throws. */
export const parse = (text: string, typescript: boolean): Parsed => {
  // Loaded on the first cache miss only: a warm start parses nothing.
  const acorn = createRequire(import.meta.url)("acorn") as typeof import("acorn")
  const source = typescript ? strip(text) : text
  const program = acorn.parse(source, { ecmaVersion: "latest", sourceType: "module", allowHashBang: true })
  const imports = new Set<string>()
  const urls = new Set<string>()
  const tree = write(program, (node) => collect(node, imports, urls))
  return { digest: sha256(tree), imports: [...imports], urls: [...urls] }
}

/** Node announces the function as experimental on standard error, though it is the one that runs our own modules. */
const strip = (text: string): string => {
  const { emitWarning } = process
  process.emitWarning = () => {}
  const source = Result.try(() => stripTypeScriptTypes(text, { mode: "strip" }))
  process.emitWarning = emitWarning
  return Result.getOrThrow(source)
}

const collect = (node: AnyNode, imports: Set<string>, urls: Set<string>): void => {
  switch (node.type) {
    case "ImportDeclaration":
    case "ExportNamedDeclaration":
    case "ExportAllDeclaration":
    case "ImportExpression":
      if (node.source?.type === "Literal" && typeof node.source.value === "string") imports.add(node.source.value)
      return
    case "NewExpression": {
      const [path, base] = node.arguments
      const isUrl = node.callee.type === "Identifier" && node.callee.name === "URL"
      if (isUrl && path?.type === "Literal" && typeof path.value === "string" && isOwnUrl(base)) urls.add(path.value)
    }
  }
}

/** `import.meta.url` */
const isOwnUrl = (node: AnyNode | undefined): boolean =>
  node?.type === "MemberExpression" &&
  node.object.type === "MetaProperty" &&
  node.property.type === "Identifier" &&
  node.property.name === "url"

/** The tree as text: every node's own properties by name, without places and spellings. */
const write = (program: Program, visit: (node: AnyNode) => void): string => {
  const text = (value: unknown): string => {
    // A stray semicolon is an empty statement, and formatting too.
    if (Array.isArray(value))
      return `[${value
        .filter((it) => it?.type !== "EmptyStatement")
        .map(text)
        .join()}]`
    if (typeof value === "bigint") return `${value}n`
    if (typeof value === "number") return `${value}` // JSON has no infinity, and 1e999 is one
    if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? ""
    if (value instanceof RegExp) return "" // its pattern and flags stand beside it
    const node = value as { readonly type?: string; readonly [key: string]: unknown }
    if (node.type !== undefined) visit(node as unknown as AnyNode)
    const entries: Array<string> = []
    for (const key of Object.keys(node)) {
      if (key === "start" || key === "end" || (key === "raw" && node.type === "Literal")) continue
      entries.push(`${key}:${text(node[key])}`)
    }
    return `{${entries.join()}}`
  }
  return text(program)
}
