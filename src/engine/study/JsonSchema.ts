/**
 * The JSON Schema (draft 2020-12) of study files, made from the same schemas that decode them, so that editors complete
 * names, show descriptions and underline what the plan would refuse.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { BadStage, Entry, Registry } from "../plan/Registry.ts"
import type { Arity } from "../Stage.ts"

type Json = { readonly [key: string]: unknown }

const VARIABLE = { $ref: "#/$defs/variable" }
const REFERENCE = { $ref: "#/$defs/reference" }

const references: { readonly [A in Arity]: Json } = {
  one: { anyOf: [REFERENCE, VARIABLE] },
  optional: { anyOf: [REFERENCE, { enum: ["none", null] }, VARIABLE] },
  many: {
    anyOf: [REFERENCE, { type: "array", items: REFERENCE, minItems: 1, uniqueItems: true }, VARIABLE],
    description: "gathers every cell",
  },
}

const isRecord = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)
const mapValues = (record: Json, f: (value: any) => unknown): Json =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, f(value)]))

// oxlint-disable-next-line unicorn/no-thenable -- a keyword of JSON Schema, not a promise
const when = (condition: Json, consequence: Json): Json => ({ if: condition, then: consequence })

/** A schema whose values, at any depth, may also be written as `${variable}`. */
const withVariables = (schema: Json): Json => {
  if (schema["type"] === "string" && !("enum" in schema) && !("pattern" in schema)) return schema
  const { description, ...rest } = inside(schema)
  const alternatives = Array.isArray(rest["anyOf"]) ? rest["anyOf"] : [rest]
  return { ...(description === undefined ? {} : { description }), anyOf: [...alternatives, VARIABLE] }
}

/** The same for what a schema contains, not for itself. */
const inside = (schema: Json): Json =>
  Object.fromEntries(
    Object.entries(schema)
      // Every whole number of JSON has these bounds; they only make messages longer.
      .filter(([key, value]) => !/^(minimum|maximum)$/.test(key) || Math.abs(value as number) < Number.MAX_SAFE_INTEGER)
      .map(([key, value]) => {
        if (key === "properties" || key === "patternProperties") return [key, mapValues(value as Json, withVariables)]
        if (isRecord(value) && /^(items|additionalProperties)$/.test(key)) return [key, withVariables(value)]
        return [key, Array.isArray(value) && /^(anyOf|oneOf|allOf)$/.test(key) ? value.map(inside) : value]
      }),
  )

/** A value of an axis: mappings may carry a `name` that labels them. */
const named = (schema: Json, definitions: Json): Json => {
  const reference = schema["$ref"]
  if (typeof reference === "string") {
    const target = definitions[reference.slice("#/$defs/".length)]
    return isRecord(target) ? named(target, definitions) : schema
  }
  if (Array.isArray(schema["anyOf"])) return { ...schema, anyOf: schema["anyOf"].map((it) => named(it, definitions)) }
  if (schema["type"] !== "object" || !isRecord(schema["properties"])) return schema
  const name = { type: ["string", "number"], description: "label of this value in tables and cell names" }
  return { ...schema, properties: { name, ...schema["properties"] } }
}

/** References into a stage's own definitions, renamed so that stages cannot collide. */
const renamed = (schema: unknown, prefix: string): any =>
  Array.isArray(schema)
    ? schema.map((it) => renamed(it, prefix))
    : !isRecord(schema)
      ? schema
      : Object.fromEntries(
          Object.entries(schema).map(([key, value]) =>
            key === "$ref" && typeof value === "string"
              ? [key, value.replace("#/$defs/", `#/$defs/${prefix}.`)]
              : [key, renamed(value, prefix)],
          ),
        )

const stageSchema = ({ use, stage }: Entry<unknown>) => {
  const fields = { ...stage.params, ...stage.hints } as Schema.Struct.Fields
  const document = Schema.toJsonSchemaDocument(Schema.Struct(fields), { onExcessProperty: "error" })
  const prefix = use.replaceAll("/", ".")
  const definitions = mapValues(
    Object.fromEntries(Object.entries(document.definitions).map(([name, it]) => [`${prefix}.${name}`, it])),
    (definition) => inside(renamed(definition, prefix)),
  )
  const schema = renamed(document.schema, prefix) as {
    readonly properties?: { readonly [name: string]: Json }
    readonly required?: ReadonlyArray<string>
  }
  const values = mapValues(schema.properties ?? {}, withVariables) as { readonly [name: string]: Json }
  const needs = mapValues(stage.needs, ({ arity }) => references[arity as Arity])
  const required = [
    ...Object.keys(needs).filter((name) => stage.needs[name]!.arity !== "optional"),
    ...(schema.required ?? []),
  ]
  const swept = Object.fromEntries(Object.entries(values).filter(([name]) => name in stage.params))
  const value = (name: string) => ({ $ref: `#/$defs/${prefix}.point/properties/${name}` })
  const list = (name: string) => ({ anyOf: [{ type: "array", items: value(name), minItems: 1 }, VARIABLE] })
  const axes = Object.keys({ ...needs, ...swept })
  const shared = {
    [`${prefix}.point`]: {
      type: "object",
      properties: mapValues({ ...needs, ...swept }, (schema) => named(schema, definitions)),
      additionalProperties: false,
      minProperties: 1,
    },
    [`${prefix}.axes`]: {
      type: "object",
      properties: Object.fromEntries(axes.map((name) => [name, list(name)])),
      additionalProperties: false,
      minProperties: 1,
    },
  }
  const rows = (items: Json) => ({ anyOf: [{ type: "array", items }, VARIABLE] })
  return {
    use,
    stage,
    definitions: { ...definitions, ...shared },
    schema: {
      description: stage.description,
      properties: {
        use: { const: use, description: stage.description },
        ...needs,
        ...values,
        matrix: {
          $ref: `#/$defs/${prefix}.axes`,
          description: "axes whose values are all combined with each other",
        },
        zip: { $ref: `#/$defs/${prefix}.axes`, description: "axes of equal length whose values go together" },
        include: { ...rows({ $ref: `#/$defs/${prefix}.point` }), description: "single points added to the sweep" },
        exclude: {
          ...rows({ type: "object", minProperties: 1 }),
          description: "points left out: every mentioned axis has the mentioned value or label",
        },
      },
      additionalProperties: false,
      // What a sweep gives need not be given outside of it; the plan knows which.
      ...when({ not: { anyOf: ["matrix", "zip", "include"].map((key) => ({ required: [key] })) } }, { required }),
    },
  }
}

/** The schema of studies over all stages of a registry. Fails for a stage that does not load. */
export const make = Effect.fnUntraced(function* <R>(registry: Registry<R>): Effect.fn.Return<Json, BadStage> {
  const entries = yield* Effect.forEach(registry.names(), (name) => registry.get(name))
  const stages = entries.map((entry) => stageSchema(entry as Entry<any>))
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Study",
    type: "object",
    required: ["study", "stages"],
    additionalProperties: false,
    properties: {
      study: { type: "string", minLength: 1, description: "the study's name" },
      description: { type: "string" },
      seed: { type: "integer", default: 0, description: "where stages that draw at random start from" },
      vars: { type: "object", description: "values to be used as ${name} anywhere below stages" },
      include: {
        anyOf: [{ type: "string" }, { type: "array", items: { type: "string" } }],
        description: "files whose stages and vars come first; this file's own replace them by name",
      },
      stages: {
        type: "object",
        minProperties: 1,
        propertyNames: { pattern: "^[A-Za-z_][A-Za-z0-9_-]*$" },
        additionalProperties: { $ref: "#/$defs/stage" },
      },
    },
    $defs: {
      variable: { type: "string", pattern: "\\$\\{[^{}]+\\}", description: "a variable: ${name}" },
      reference: { type: "string", pattern: "^\\$[A-Za-z_][A-Za-z0-9_-]*$", description: "a stage: $name" },
      stage: {
        type: "object",
        required: ["use"],
        properties: {
          use: {
            anyOf: [...stages.map(({ use, stage }) => ({ const: use, description: stage.description })), VARIABLE],
          },
        },
        allOf: stages.map(({ use }) =>
          when(
            { properties: { use: { const: use } }, required: ["use"] },
            { $ref: `#/$defs/stage.${use.replaceAll("/", ".")}` },
          ),
        ),
      },
      ...Object.fromEntries(stages.map(({ use, schema }) => [`stage.${use.replaceAll("/", ".")}`, schema])),
      ...Object.assign({}, ...stages.map(({ definitions }) => definitions)),
    },
  }
})
