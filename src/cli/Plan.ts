/** `assay plan`: what would run, what is cached, why, and what it should cost. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Command from "./Command.ts"
import * as Flags from "./Flags.ts"

export const command = Command.make({
  name: "plan",
  description: "Show what a run would compute, why, and what it should cost; runs nothing",
  arguments: [Flags.study],
  flags: {
    only: Flags.only,
    set: Flags.set,
    frozen: Flags.frozen,
    json: Flags.json,
    dot: { kind: "switch", description: "print the graph for Graphviz" },
    cache: Flags.cache,
  },
  examples: [
    ["assay plan study.yaml", "stage by stage"],
    ["assay plan study.yaml --dot | dot -Tsvg > plan.svg", "as a picture"],
  ],
  run: Effect.fnUntraced(function* (input) {
    const [Workspace, Selection, Survey, Run, Forecast, ForecastText] = yield* Effect.promise(() =>
      Promise.all([
        import("./Workspace.ts"),
        import("./Selection.ts"),
        import("../engine/run/Survey.ts"),
        import("../engine/run/Run.ts"),
        import("./Forecast.ts"),
        import("./ForecastText.ts"),
      ]),
    )
    const { plan, store } = yield* Workspace.open(input)
    const targets = input.only.length === 0 ? Survey.sinks(plan) : yield* Selection.union(plan, input.only)
    const forecast = Forecast.make(store, plan, targets)
    yield* Run.check(plan, forecast.pending)
    const form = input.json ? ForecastText.json : input.dot ? ForecastText.dot : ForecastText.text
    yield* Console.log(form(plan, forecast))
  }),
})
