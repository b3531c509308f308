/**
 * A quantization setting as YAML writes it: `none`, a label (`w4-g64`), or a mapping of a method's parameters. All three
 * decode to the same thing, so how a setting is spelled changes no key.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Method from "../src/methods/Method.ts"
import * as Plugin from "./Plugin.ts"

export type Slot = Method.Any["slot"]
/** A method's name and its decoded parameters, or nothing to be done. */
export type Setting = "none" | { readonly method: string; readonly [param: string]: Schema.Json }

const loaded = await Promise.all(
  Plugin.names("methods").map(async (name) => {
    const method = await Effect.runPromise(Plugin.load(Plugin.url("methods", name), Method.isMethod))
    return [name, method] as const
  }),
)
export const methods: ReadonlyMap<string, Method.Any> = new Map(loaded)

/** What a mapping without `method` means, by slot. */
const usual: { readonly [S in Slot]: string } = { weights: "rtn", activations: "dynamic", kv: "token", state: "state" }

const struct = (name: string, method: Method.Any, slot: Slot) =>
  Schema.Struct({
    method:
      name === usual[slot]
        ? Schema.Literal(name).pipe(Schema.withDecodingDefaultKey(Effect.succeed(name)))
        : Schema.Literal(name),
    ...method.params,
  }) as unknown as Schema.Codec<Exclude<Setting, "none">, Exclude<Setting, "none">>

const examples: { readonly [S in Slot]: string } = {
  weights: "w4-g128, w8-channel, w3-g64-sym",
  activations: "a8, a8-static",
  kv: "kv4, kv4-g32, kv4-k8",
  state: "s8, s4-g8",
}

/** The schema of one slot's settings. */
export const schema = (slot: Slot) => {
  const own = loaded.filter(([, method]) => method.slot === slot)
  const any = Schema.Union(own.map(([name, method]) => struct(name, method, slot)))
  const parse = (label: string): Setting | undefined => {
    for (const [name, method] of own) {
      const params = method.parse(label) as { readonly [param: string]: Schema.Json } | undefined
      if (params !== undefined) return { method: name, ...params }
    }
    return undefined
  }
  const written = Schema.String.check(
    Schema.makeFilter((text: string) =>
      parse(text) !== undefined
        ? undefined
        : `'${text}' is no ${slot} setting; expected none, a label such as ${examples[slot]}, or a mapping { bits: … }`,
    ),
  ).pipe(
    Schema.decodeTo(
      Schema.toType(any),
      SchemaTransformation.transform({
        decode: (text: string) => parse(text) as Exclude<Setting, "none">,
        encode: label,
      }),
    ),
  )
  return Schema.Union([Schema.Literal("none"), any, written]) as unknown as Schema.Codec<Setting, Schema.Json>
}

/** The setting's short name, in cells and tables. */
export const label = (setting: Setting): string => {
  if (setting === "none") return "none"
  const { method, ...params } = setting
  return methods.get(method)!.label(params)
}
