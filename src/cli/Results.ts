/** `assay results`: the tables of a study, or a cell's items or log, from the cache; computes nothing. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Command from "./Command.ts"
import * as Flags from "./Flags.ts"

export const command = Command.make({
  name: "results",
  description: "Print the tables of a study that has run, or the items or the log of a cell; runs nothing",
  arguments: [Flags.study],
  flags: {
    only: {
      ...Flags.only,
      description: "only the tables of these, or the scores of these where there is no table; may be repeated",
    },
    set: Flags.set,
    frozen: Flags.frozen,
    csv: { kind: "switch", description: "tidy rows as CSV" },
    json: { kind: "switch", description: "tables as JSON" },
    markdown: { kind: "switch", description: "tables as Markdown" },
    items: {
      kind: "text",
      value: "cell",
      description: "print every item that this cell scored: what was asked, what came of it; JSON Lines",
    },
    log: { kind: "text", value: "cell", description: "print what this cell logged when it was computed" },
    cache: Flags.cache,
  },
  examples: [
    ["assay results study.yaml --csv > rows.csv", "every measured value, one a line"],
    ["assay results study.yaml --items 'score[weights=w4-g64]'", "every answer, one a line"],
    ["assay results study.yaml --log 'quant[weights=w4-g64]'", "what a stage had to say"],
  ],
  run: Effect.fnUntraced(function* (input) {
    const [Workspace, Selection, Survey, Output, Tables, { CallError }] = yield* Effect.promise(() =>
      Promise.all([
        import("./Workspace.ts"),
        import("./Selection.ts"),
        import("../engine/run/Survey.ts"),
        import("../engine/run/Output.ts"),
        import("./Tables.ts"),
        import("./CallError.ts"),
      ]),
    )
    const { plan, store } = yield* Workspace.open(input)
    const survey = Survey.make(store, plan, () => false)
    const absent = ({ id }: { readonly id: string }) =>
      new CallError({ reason: `${id} is not in the cache; assay run ${input.study} computes it` })
    const traceOf = (cell: (typeof plan.cells)[number]) => {
      const trace = survey.traces.get(cell)
      return trace !== undefined && survey.isUsable(trace) ? Effect.succeed(trace) : Effect.fail(absent(cell))
    }
    if (input.log !== undefined) {
      const trace = yield* traceOf(yield* Selection.one(plan, input.log))
      const bytes = trace.provenance.log === undefined ? undefined : store.getDocument(trace.provenance.log)
      return yield* Console.log(bytes === undefined ? "(nothing was logged)" : Buffer.from(bytes).toString().trimEnd())
    }
    if (input.items !== undefined) {
      const cell = yield* Selection.one(plan, input.items)
      if (!Tables.isScores(cell)) {
        const reason = `${cell.id} gives a ${cell.definition.gives.kind}; items are of cells that evaluate`
        return yield* new CallError({ reason })
      }
      const { output } = yield* traceOf(cell)
      const { Scores } = yield* Effect.promise(() => import("../../stages/Scores.ts"))
      const scores = yield* Output.decode(output, Scores.schema, store.getDocument(output))
      const bytes = yield* Effect.mapError(store.readBlob(scores.records), () => absent(cell))
      return yield* Console.log(Buffer.from(bytes).toString().trimEnd())
    }
    const chosen = input.only.length === 0 ? plan.cells : yield* Selection.union(plan, input.only)
    const cells = chosen.filter(Tables.isTable)
    const form = input.csv ? "csv" : input.json ? "json" : input.markdown ? "markdown" : "text"
    if (cells.length === 0) {
      const wanted = chosen.filter(Tables.isScores)
      const found = wanted.flatMap((cell) => {
        const trace = survey.traces.get(cell)
        return trace !== undefined && survey.isUsable(trace) ? [[cell, trace] as const] : []
      })
      if (found.length === 0) {
        const reason = wanted.length > 0 ? "none of these is in the cache" : "neither tables nor scores among these"
        return yield* new CallError({ reason })
      }
      if (found.length < wanted.length)
        yield* Console.error(`${wanted.length - found.length} of ${wanted.length} cells are not in the cache`)
      return yield* Tables.print(yield* Tables.ofScores(found), form)
    }
    for (const cell of cells) {
      const table = yield* Effect.mapError(Tables.read(yield* traceOf(cell)), () => absent(cell))
      yield* Tables.print(table, form)
    }
  }),
})
