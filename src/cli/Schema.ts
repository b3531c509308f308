/** `assay schema`: writes the JSON Schema that editors check study files against. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Command from "./Command.ts"
import * as Product from "./Product.ts"

export const command = Command.make({
  name: "schema",
  description: "Write pipelines/schema.json, which gives editors completion and underlines for study files",
  arguments: [],
  flags: { check: { kind: "switch", description: "write nothing; fail if the file is not up to date" } },
  examples: [["assay schema", "after a stage or a plug-in was added or changed"]],
  run: Effect.fnUntraced(function* ({ check }) {
    const [JsonSchema, Registry, { shorten }, { CallError }] = yield* Effect.promise(() =>
      Promise.all([
        import("../engine/study/JsonSchema.ts"),
        import("../engine/plan/Registry.ts"),
        import("./Paths.ts"),
        import("./CallError.ts"),
      ]),
    )
    const file = join(Product.pipelines, "schema.json")
    const schema = yield* JsonSchema.make(Registry.load(Product.stages))
    const text = `${JSON.stringify(schema, null, 2)}\n`
    const isCurrent = existsSync(file) && readFileSync(file, "utf8") === text
    if (isCurrent) return yield* Console.log(`${shorten(file)} is up to date`)
    if (check) return yield* new CallError({ reason: `${shorten(file)} is not up to date; assay schema writes it` })
    writeFileSync(file, text)
    yield* Console.log(`${shorten(file)} written`)
  }),
})
