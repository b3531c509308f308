/** What a study can name, read from the folders that hold it: a lower-case file is a plug-in under its own name. */
import * as Effect from "effect/Effect"
import * as EffectSchema from "effect/Schema"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import * as Registry from "../engine/plan/Registry.ts"
import * as Product from "./Product.ts"

export interface Parameter {
  readonly name: string
  /** Type, default and description in a line. */
  readonly text: string
}
export interface Entry {
  readonly name: string
  /** Of a family: the published checkpoints that are of it, and whether it is read from GGUF files too. */
  readonly covers?: string
  readonly gguf?: boolean
  readonly description: string
  readonly parameters: ReadonlyArray<Parameter>
}

type Json = { readonly [key: string]: any }

const typeOf = (schema: Json, definitions: Json): string => {
  if (typeof schema["$ref"] === "string")
    return typeOf(definitions[schema["$ref"].split("/").at(-1)!] ?? {}, definitions)
  if (Array.isArray(schema["enum"])) return schema["enum"].map(String).join(" | ")
  if ("const" in schema) return String(schema["const"])
  const alternatives: ReadonlyArray<Json> | undefined = schema["anyOf"] ?? schema["oneOf"]
  if (alternatives !== undefined) return [...new Set(alternatives.map((it) => typeOf(it, definitions)))].join(" | ")
  if (schema["type"] === "array") {
    const items = typeOf(schema["items"] ?? {}, definitions)
    return `list of ${items.includes("|") ? `(${items})` : items}`
  }
  return schema["type"] === "object" ? "mapping" : String(schema["type"] ?? "value")
}

/** @param hint whether it leaves the result's key alone */
const parametersOf = (fields: EffectSchema.Struct.Fields, hint: boolean): ReadonlyArray<Parameter> => {
  const document = EffectSchema.toJsonSchemaDocument(EffectSchema.Struct(fields))
  const { properties = {}, required = [] } = document.schema as Json
  return Object.entries(properties as Json).map(([name, schema]) => {
    const notes = [
      ...(hint ? ["changes no result"] : required.includes(name) ? [] : ["optional"]),
      ...(schema.default === undefined ? [] : [`default ${JSON.stringify(schema.default)}`]),
    ]
    const type = typeOf(schema, document.definitions as Json)
    const text = notes.length === 0 ? type : `${type} (${notes.join(", ")})`
    return { name, text: schema.description === undefined ? text : `${text}. ${schema.description}` }
  })
}

const stages = Effect.gen(function* () {
  const registry = Registry.load(Product.stages)
  return yield* Effect.forEach(registry.names(), (use) =>
    Effect.map(registry.get(use), ({ stage }): Entry => {
      const inputs = Object.entries(stage.needs).map(([name, { arity, artifact }]) => ({
        name,
        text: `$${artifact.kind}${arity === "one" ? "" : arity === "many" ? " (gathers all)" : " (optional)"}`,
      }))
      const parameters = [...inputs, ...parametersOf(stage.params, false), ...parametersOf(stage.hints, true)]
      return { name: use, description: stage.description, parameters }
    }),
  )
})

/** The first sentence of the comment that a file opens with. */
const opening = (file: string): string => {
  const [, comment = ""] = /^\/\*\*([\s\S]*?)\*\//.exec(readFileSync(file, "utf8")) ?? []
  const text = comment
    .replace(/^\s*\*/gm, "")
    .replace(/\s+/g, " ")
    .trim()
  return /^.*?[.!?](?= [A-Z]|$)/.exec(text)?.[0] ?? text
}

const files = (folder: string, extension: string) =>
  readdirSync(Product.plugins(folder))
    .filter((file) => /^[a-z]/.test(file) && file.endsWith(extension))
    .toSorted()
    .map((file) => ({ name: file.slice(0, -extension.length), file: join(Product.plugins(folder), file) }))

const plugins = (folder: string) =>
  Effect.forEach(files(folder, ".ts"), ({ file, name }) =>
    Effect.map(
      Effect.promise((): Promise<Json> => import(pathToFileURL(file).href)),
      ({ default: plugin }): Entry => ({
        name,
        description: plugin?.description ?? opening(file),
        parameters: plugin?.params === undefined ? [] : parametersOf(plugin.params, false),
        ...(typeof plugin?.covers === "string" && { covers: plugin.covers, gguf: plugin.gguf !== undefined }),
      }),
    ),
  )

const tasks = Effect.map(
  Effect.promise(() => import("yaml")),
  ({ parse }) =>
    files("tasks", ".yaml").map(({ file, name }): Entry => {
      const task: Json = parse(readFileSync(file, "utf8")) ?? {}
      return { name, description: `${task["description"] ?? ""} (${task["kind"]})`.trim(), parameters: [] }
    }),
)

export const entries = (what: string) => (what === "stages" ? stages : what === "tasks" ? tasks : plugins(what))
