/** `assay run`: computes what is missing, then prints the tables and what was reused. */
import * as Effect from "effect/Effect"
import { availableParallelism } from "node:os"
import * as Command from "./Command.ts"
import * as Flags from "./Flags.ts"

const everything = "*"

export const command = Command.make({
  name: "run",
  description: "Run a study: compute what is missing, then print its tables",
  arguments: [Flags.study],
  flags: {
    only: Flags.only,
    set: Flags.set,
    frozen: Flags.frozen,
    jobs: Flags.jobs,
    keepGoing: {
      kind: "switch",
      short: "k",
      description: "after a failure, still compute what does not depend on it",
    },
    force: {
      kind: "texts",
      value: "cell or stage",
      bare: everything,
      description: "compute again although it is cached: everything, or what is named; may be repeated",
    },
    log: {
      kind: "text",
      value: "text or json",
      choices: ["text", "json"],
      description: "json: every event as a line of JSON on standard output",
    },
    cache: Flags.cache,
  },
  examples: [
    ["assay run pipelines/quickstart.yaml", "everything that the study asks for"],
    ["assay run study.yaml --only 'score[task=prose]'", "a part of it"],
    ["assay run study.yaml --set quant.group=32", "with a value changed"],
  ],
  run: Effect.fnUntraced(function* (input) {
    const [Workspace, Selection, Run, Summary, Tables, Display] = yield* Effect.promise(() =>
      Promise.all([
        import("./Workspace.ts"),
        import("./Selection.ts"),
        import("../engine/run/Run.ts"),
        import("./Summary.ts"),
        import("./Tables.ts"),
        import("./Display.ts"),
      ]),
    )
    const { plan, fingerprint, runtime } = yield* Workspace.open(input)
    const targets = input.only.length === 0 ? undefined : yield* Selection.union(plan, input.only)
    const forced = new Set(input.force.includes(everything) ? plan.cells : yield* Selection.union(plan, input.force))
    const log = input.log === "json" ? "json" : "text"
    const started = Date.now()
    const report = yield* Run.run(plan, {
      jobs: input.jobs ?? availableParallelism(),
      ...(targets !== undefined && { targets }),
      forced: (cell) => forced.has(cell),
      read: Tables.isTable,
      keepGoing: input.keepGoing,
      fingerprint,
      runtime,
    }).pipe(Display.showing(log))
    return yield* Summary.print(report, { seconds: (Date.now() - started) / 1000, log })
  }),
})
