/** `assay list`: what there is to name in a study. The folders are the registries. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Command from "./Command.ts"
import * as Flags from "./Flags.ts"

export const command = Command.make({
  name: "list",
  description: "List what a study can name, with parameters",
  arguments: [{ name: "what", description: "one of", choices: ["stages", "methods", "formats", "models", "tasks"] }],
  flags: { json: Flags.json },
  examples: [["assay list methods", "how weights, activations and caches can be quantized"]],
  run: Effect.fnUntraced(function* ({ json, what }) {
    const { entries } = yield* Effect.promise(() => import("./Inventory.ts"))
    const found = yield* entries(what)
    if (json) return yield* Console.log(JSON.stringify(found, null, 2))
    const width = Math.max(0, ...found.map(({ name }) => name.length))
    for (const { description, name, parameters } of found) {
      yield* Console.log(`${name.padEnd(width)}  ${description}`)
      for (const { name, text } of parameters) yield* Console.log(`${" ".repeat(width)}    ${name}: ${text}`)
    }
  }),
})
