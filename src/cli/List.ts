/** `assay list`: what there is to name in a study. The folders are the registries. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Command from "./Command.ts"
import * as Flags from "./Flags.ts"
import type { Entry } from "./Inventory.ts"

type Row = ReadonlyArray<string>

/** Cells as wide as the widest of their column, so that a table in a text file reads as one. */
const markdown = (head: Row, rows: ReadonlyArray<Row>): string => {
  const widths = head.map((_, i) => Math.max(3, ...[head, ...rows].map((row) => row[i]!.length)))
  const line = (row: Row) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n")
}
const aligned = (rows: ReadonlyArray<Row>): string => {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]!.length)))
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n")
}
const code = (text: string) => `\`${text}\``
const short = ({ description, name }: { readonly name: string; readonly description: string }) => [name, description]

const tables = Effect.fnUntraced(function* (what: string, found: ReadonlyArray<Entry>) {
  if (what !== "models") {
    const rows = found.map(({ description, name }) => [code(name), description])
    return [markdown([what, ""], rows)]
  }
  const { formats } = yield* Effect.promise(() => import("../../stages/Readable.ts"))
  return [
    markdown(
      ["architecture", "checkpoints", "GGUF"],
      found.map(({ covers, gguf, name }) => [code(name), covers ?? "", gguf === true ? "yes" : "no"]),
    ),
    markdown(["files", ""], formats.map(short)),
  ]
})

/** One line for each, and what any of them can be read from. */
const models = Effect.fnUntraced(function* (found: ReadonlyArray<Entry>) {
  const { formats, sources } = yield* Effect.promise(() => import("../../stages/Readable.ts"))
  return [
    aligned(
      found.map(({ covers = "", description, gguf, name }) => [name, covers, gguf === true ? "GGUF" : "", description]),
    ),
    `Sources\n${aligned(sources.map((source) => ["", ...short(source)]))}`,
    `Files\n${aligned(formats.map((format) => ["", ...short(format)]))}`,
  ]
})

const entries = (found: ReadonlyArray<Entry>): string => {
  const width = Math.max(0, ...found.map(({ name }) => name.length))
  return found
    .flatMap(({ description, name, parameters }) => [
      `${name.padEnd(width)}  ${description}`,
      ...parameters.map(({ name, text }) => `${" ".repeat(width)}    ${name}: ${text}`),
    ])
    .join("\n")
}

export const command = Command.make({
  name: "list",
  description: "List what a study can name, with parameters",
  arguments: [{ name: "what", description: "one of", choices: ["stages", "methods", "formats", "models", "tasks"] }],
  flags: { json: Flags.json, markdown: { kind: "switch", description: "print tables for a text file" } },
  examples: [
    ["assay list methods", "how weights, activations and caches can be quantized"],
    ["assay list models", "which checkpoints can be loaded, and from which files"],
  ],
  run: Effect.fnUntraced(function* ({ json, markdown, what }) {
    const inventory = yield* Effect.promise(() => import("./Inventory.ts"))
    const found = yield* inventory.entries(what)
    if (json) return yield* Console.log(JSON.stringify(found, null, 2))
    const parts = markdown ? yield* tables(what, found) : what === "models" ? yield* models(found) : [entries(found)]
    yield* Console.log(parts.join("\n\n"))
  }),
})
