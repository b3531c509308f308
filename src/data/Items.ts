/**
 * The rows of a task's data: JSON Lines, a JSON array, CSV with a header, Parquet, or plain text (one item, field `text`).
 * Data sets often call JSON Lines `.json`, so that is understood too.
 */
import { parse as parseCsv } from "csv-parse/sync"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { readFileSync } from "node:fs"
import { extname } from "node:path"
import * as Json from "./Json.ts"

/** Data that cannot be read: names the file and the line. */
export class BadData extends Schema.TaggedError<BadData>()("BadData", { file: Schema.String, reason: Schema.String }) {
  override get message() {
    return `${this.file}: ${this.reason}`
  }
}

export type Item = { readonly [field: string]: unknown }

/** All items, or the first `limit`. An empty file is an error: nothing can be said of nothing. */
export const read = (file: string, limit: number | undefined): Effect.Effect<ReadonlyArray<Item>, BadData> =>
  Effect.gen(function* () {
    const bad = (reason: string) => new BadData({ file, reason })
    if (extname(file) === ".parquet") return yield* parquet(file, limit)
    const text = yield* Effect.try({
      try: () => new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file)),
      catch: (cause) => bad(`cannot be read as UTF-8: ${(cause as Error).message}`),
    })
    const parse = parsers[extname(file)]
    if (parse === undefined)
      return yield* bad(`unknown kind of file; expected ${[...Object.keys(parsers), ".parquet"].join(", ")}`)
    const items = parse(text)
    if (typeof items === "string") return yield* bad(items)
    if (items.length === 0) return yield* bad("holds no items")
    return limit === undefined ? items : items.slice(0, limit)
  })

const parquet = (file: string, limit: number | undefined) =>
  Effect.gen(function* () {
    const Parquet = yield* Effect.promise(() => import("./Parquet.ts"))
    const rows = Stream.runCollect(Parquet.stream(file, limit === undefined ? {} : { limit }))
    const items = yield* Effect.mapError(rows, ({ reason }) => new BadData({ file, reason }))
    return items.length === 0 ? yield* new BadData({ file, reason: "holds no items" }) : items
  })

/** Items, or what is wrong. */
type Parser = (text: string) => ReadonlyArray<Item> | string

const jsonLines: Parser = (text) => {
  const items: Array<Item> = []
  for (const [i, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue
    const parsed = Json.parse(line)
    if ("problem" in parsed) return `line ${i + 1} ${parsed.problem}`
    if (!Json.isRecord(parsed.value)) return `line ${i + 1} is not a JSON object`
    items.push(parsed.value)
  }
  return items
}
const json: Parser = (text) => {
  const parsed = Json.parse(text)
  if ("problem" in parsed) {
    const lines = jsonLines(text)
    return typeof lines === "string" || lines.length === 0 ? parsed.problem : lines
  }
  const { value } = parsed
  return Array.isArray(value) && value.every(Json.isRecord) ? value : "is not an array of JSON objects"
}
const csv: Parser = (text) => {
  try {
    return parseCsv<Item>(text, { columns: true, bom: true, skip_empty_lines: true })
  } catch (cause) {
    return (cause as Error).message
  }
}
const parsers: { readonly [extension: string]: Parser } = {
  ".jsonl": jsonLines,
  ".json": json,
  ".csv": csv,
  ".txt": (text) => (text === "" ? [] : [{ text }]),
}
