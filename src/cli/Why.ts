/** `assay why`: the exact fields, files and code that make a cell different from what was computed before. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Command from "./Command.ts"
import * as Flags from "./Flags.ts"

export const command = Command.make({
  name: "why",
  description: "Explain why a cell would be computed again, or when it was computed",
  arguments: [Flags.study, { name: "cell", description: "a cell or stage: score, 'score[task=prose]'" }],
  flags: { set: Flags.set, frozen: Flags.frozen, json: Flags.json, cache: Flags.cache },
  examples: [["assay why study.yaml 'quant[weights=w4-g64]'", "what changed since it was computed"]],
  run: Effect.fnUntraced(function* (input) {
    const [Workspace, Selection, Survey, Explain, ExplainText, Paths] = yield* Effect.promise(() =>
      Promise.all([
        import("./Workspace.ts"),
        import("./Selection.ts"),
        import("../engine/run/Survey.ts"),
        import("../engine/run/Explain.ts"),
        import("../engine/run/ExplainText.ts"),
        import("./Paths.ts"),
      ]),
    )
    const { plan, store } = yield* Workspace.open(input)
    const cells = yield* Selection.cells(plan, input.cell)
    const { why } = Explain.make(
      store,
      plan,
      Survey.make(store, plan, () => false),
    )
    const explanations = cells.map(why)
    yield* Console.log(
      input.json
        ? JSON.stringify(explanations, null, 2)
        : explanations.flatMap((explanation) => ExplainText.lines(explanation, Paths.shorten)).join("\n"),
    )
  }),
})
