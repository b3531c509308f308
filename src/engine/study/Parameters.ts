/**
 * Decodes a stage's parameters one field at a time, each distinct value once, and encodes them back for the key. Fields
 * are independent of each other, so a sweep over two axes costs the sum of its values and not their product.
 */
import { isTagged } from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { type LeafHook, defaultLeafHook, makeFormatterStandardSchemaV1 } from "effect/SchemaIssue"
import type { Path, Value } from "./Document.ts"
import { suggest } from "./Nearest.ts"

/** One field. A field without a value (an optional one, left out) has neither. */
export interface Decoded {
  readonly present: boolean
  readonly value: unknown
  /** As it enters the key. */
  readonly json: Schema.Json | undefined
}

/** What is wrong with a field; `path` starts with the field's name. */
export interface Trouble {
  readonly path: Path
  readonly reason: string
  /** Whether the message is about the key at the end of the path or its value. */
  readonly part: "key" | "value"
}

export interface Field {
  /** `undefined` stands for a field that is not written. */
  readonly decode: (raw: Value | undefined) => Result.Result<Decoded, ReadonlyArray<Trouble>>
}

export const make = (name: string, schema: Schema.Constraint): Field => {
  // A struct of one field, because defaults and optional keys belong to the key and not to the value.
  const struct = Schema.Struct({ [name]: schema as Schema.Codec<unknown, unknown> })
  const decode = Schema.decodeUnknownResult(struct, { onExcessProperty: "error", errors: "all", reportInput: true })
  const encode = Schema.encodeUnknownResult(Schema.toCodecJson(struct))
  const known = new Map<Value | undefined, Result.Result<Decoded, ReadonlyArray<Trouble>>>()
  const fresh = (raw: Value | undefined): Result.Result<Decoded, ReadonlyArray<Trouble>> => {
    const decoded = decode(raw === undefined ? {} : { [name]: raw })
    if (Result.isFailure(decoded)) return Result.fail(troubles(decoded.failure.issue))
    const record = decoded.success as { readonly [name: string]: unknown }
    const json = Result.getOrThrow(encode(record)) as { readonly [name: string]: Schema.Json }
    return Result.succeed({ present: Object.hasOwn(record, name), value: record[name], json: json[name] })
  }
  return {
    decode: (raw) => {
      let result = known.get(raw)
      if (result === undefined) known.set(raw, (result = fresh(raw)))
      return result
    },
  }
}

const UNKNOWN = "unknown key; "
const MISSING = "missing"
const hook: LeafHook = (issue) => {
  if (isTagged(issue, "MissingKey")) return MISSING
  if (!isTagged(issue, "UnexpectedKey")) return defaultLeafHook(issue)
  const ast = issue.ast as { readonly propertySignatures?: ReadonlyArray<{ readonly name: PropertyKey }> }
  return UNKNOWN + (ast.propertySignatures ?? []).map(({ name }) => String(name)).join(" ")
}
const format = makeFormatterStandardSchemaV1({ leafHook: hook })

const troubles = (issue: Parameters<typeof format>[0]): ReadonlyArray<Trouble> =>
  format(issue).issues.map(({ message, path: steps }) => {
    const path = (steps ?? []) as Path
    const last = `${path.at(-1)}`
    if (message.startsWith(UNKNOWN)) {
      const known = message.slice(UNKNOWN.length).split(" ")
      return { path, reason: `unknown key '${last}'; ${suggest(last, known)}`, part: "key" }
    }
    if (message === MISSING) return { path, reason: `'${path.join(".")}' is missing`, part: "key" }
    const [, expected, got] = /^Expected ([^]*?)(?:, got ([^]*))?$/.exec(message) ?? []
    const reason = expected === undefined ? message : `must be ${expected}${got === undefined ? "" : `, not ${got}`}`
    return { path, reason: `'${path.join(".")}' ${reason}`, part: "value" }
  })
