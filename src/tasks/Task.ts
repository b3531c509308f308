/**
 * A task's YAML: pure data, decoded strictly. Errors name the file, line and column.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import { LineCounter, parseDocument } from "yaml"
import type { Scorer } from "./Scorer.ts"

/** A task file that is not one: `file:line:column: reason`. */
export class BadTask extends Schema.TaggedError<BadTask>()("BadTask", { where: Schema.String, reason: Schema.String }) {
  override get message() {
    return `${this.where}: ${this.reason}`
  }
}

const common = {
  kind: Schema.String,
  version: Schema.Int,
  description: Schema.String,
  data: Schema.Struct({
    /** `bundled:` or `file:`; .jsonl, .json, .csv, .parquet or .txt. Or `hub-data:owner/name@revision`. */
    source: Schema.NonEmptyString,
    /** Of a data set on the hub: which configuration of it, where there are several, and which split. */
    config: Schema.optionalKey(Schema.NonEmptyString),
    split: Schema.optionalKey(Schema.NonEmptyString),
    /** The first so many items. */
    limit: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))),
  }),
  /** Also report the metrics per value of this template: `{lines}`. */
  group: Schema.optionalKey(Schema.String),
  /** What guessing scores. */
  chance: Schema.optionalKey(Schema.Finite),
}
const Common = Schema.Struct(common)
export type Common = typeof Common.Type

interface Raw {
  readonly value: { readonly [key: string]: unknown }
  readonly fail: (path: ReadonlyArray<PropertyKey>, reason: string) => BadTask
}

/** What a library throws, as data. */
const attempt = <A>(thunk: () => A): { readonly value: A } | { readonly problem: string } => {
  try {
    return { value: thunk() }
  } catch (cause) {
    return { problem: (cause as Error).message }
  }
}

const read = (file: string): Effect.Effect<Raw, BadTask> =>
  Effect.suspend(() => {
    const lineCounter = new LineCounter()
    const text = attempt(() => readFileSync(file, "utf8"))
    if ("problem" in text) return Effect.fail(new BadTask({ where: file, reason: `cannot be read: ${text.problem}` }))
    const document = parseDocument(text.value, { lineCounter, strict: true })
    const at = (offset: number) => {
      const { col, line } = lineCounter.linePos(offset)
      return `${file}:${line}:${col}`
    }
    const [problem] = document.errors
    if (problem) return Effect.fail(new BadTask({ where: at(problem.pos[0]), reason: problem.message.split("\n")[0]! }))
    const parsed = attempt((): unknown => document.toJS({ maxAliasCount: 16 }))
    if ("problem" in parsed) return Effect.fail(new BadTask({ where: at(0), reason: parsed.problem }))
    const { value } = parsed
    const fail = (path: ReadonlyArray<PropertyKey>, reason: string) => {
      for (let depth = path.length; depth > 0; depth--) {
        const node = document.getIn(path.slice(0, depth), true) as { range?: [number, number, number] } | undefined
        if (node?.range) return new BadTask({ where: at(node.range[0]), reason })
      }
      return new BadTask({ where: at(0), reason })
    }
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? Effect.succeed({ value: value as Raw["value"], fail })
      : Effect.fail(fail([], "expected a mapping with kind, version, description and data"))
  })

/** First thing wrong with a decoded value, with its path. */
const decode = <A>(schema: Schema.Codec<A, any>, raw: Raw, excess: "error" | "ignore"): Effect.Effect<A, BadTask> =>
  Effect.mapError(Schema.decodeUnknownEffect(schema)(raw.value, { onExcessProperty: excess }), (error) => {
    const text = String(error.message)
    const path = [...(/at ((?:\["?[^\]"]+"?\])+)/.exec(text)?.[1] ?? "").matchAll(/\["?([^\]"]+)"?\]/g)].map(
      ([, key]) => (/^\d+$/.test(key!) ? Number(key) : key!),
    )
    return raw.fail(path, text.replace(/\s+/g, " "))
  })

/** What every task says, whatever its kind. */
export const readCommon = (file: string): Effect.Effect<Common, BadTask> =>
  Effect.flatMap(read(file), (raw) => decode(Common, raw, "ignore"))

/** The whole task, by its kind's own fields; unknown keys are errors. */
export const readTask = <Fields extends Schema.Struct.Fields>(
  file: string,
  scorer: Scorer<Fields>,
): Effect.Effect<Common & Schema.Struct<Fields>["Type"], BadTask> =>
  Effect.flatMap(read(file), (raw) => {
    const known = Object.keys({ ...common, ...scorer.fields })
    const unknown = Object.keys(raw.value).find((key) => !known.includes(key))
    if (unknown !== undefined) {
      const kind = String(raw.value["kind"])
      return Effect.fail(
        raw.fail([unknown], `unknown key '${unknown}'; a task of kind ${kind} has ${known.join(", ")}`),
      )
    }
    return decode(
      Schema.Struct({ ...common, ...scorer.fields }) as unknown as Schema.Codec<
        Common & Schema.Struct<Fields>["Type"],
        any
      >,
      raw,
      "error",
    )
  })
