/** From a config.json to the family that runs it and everything that follows from the config alone. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Checkpoint from "../src/data/Checkpoint.ts"
import { Problem } from "../src/engine/Problem.ts"
import * as Family from "../src/models/Family.ts"
import * as Plugin from "./Plugin.ts"

/** What can be wrong with the folder is wrong with `source`. */
export const atSource = <A>(effect: Effect.Effect<A, { readonly message: string }>): Effect.Effect<A, Problem> =>
  Effect.mapError(effect, ({ message }) => new Problem({ path: ["source"], reason: message }))

/** The file of the family that config.json names. */
export const familyFile = (config: string) =>
  Effect.gen(function* () {
    const object = yield* atSource(Checkpoint.readObject(config))
    const type = object["model_type"]
    if (typeof type !== "string") {
      return yield* new Problem({ path: ["source"], reason: `${config}: has no model_type` })
    }
    return yield* Effect.mapError(
      Plugin.path("models", type, ["source"]),
      ({ reason }) => new Problem({ path: ["source"], reason: `${config}: unknown architecture: ${reason}` }),
    )
  })

/** The family's description of this config: shape, catalog, sites. */
export const describe = (config: string) =>
  Effect.gen(function* () {
    const file = yield* familyFile(config)
    const family = yield* Plugin.load(file, Family.isFamily)
    const object = yield* atSource(Checkpoint.readObject(config))
    const decoded = yield* Effect.mapError(
      Schema.decodeUnknownEffect(family.config)(object, { errors: "all" }),
      (error) => new Problem({ path: ["source"], reason: `${config}: ${String(error.message)}` }),
    )
    return { file, name: Plugin.nameOf(file), family, object, decoded, outline: Family.outline(family, decoded) }
  })
