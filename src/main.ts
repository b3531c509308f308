#!/usr/bin/env node
/** The command line of Assay, and the only place where layers are provided. */
import { enableCompileCache } from "node:module"
import { availableParallelism } from "node:os"

// What is loaded from here on is compiled, and stripped of its types, once for all runs.
enableCompileCache()
const [Effect, Layer, Result, Command, Product, Plan, Run, Why, Results, List, Schema, Cache] = await Promise.all([
  import("effect/Effect"),
  import("effect/Layer"),
  import("effect/Result"),
  import("./cli/Command.ts"),
  import("./cli/Product.ts"),
  import("./cli/Plan.ts"),
  import("./cli/Run.ts"),
  import("./cli/Why.ts"),
  import("./cli/Results.ts"),
  import("./cli/List.ts"),
  import("./cli/Schema.ts"),
  import("./cli/Cache.ts"),
])

/** The cache, and what fetches sources elsewhere, opened where a command needs them. */
const store = ({ cache }: { readonly cache: string | undefined }) =>
  Layer.unwrap(
    Effect.map(
      Effect.promise(() => Promise.all([import("./engine/store/Store.ts"), import("./cli/Remote.ts")])),
      ([{ Store }, { Remote }]) => Layer.provideMerge(Remote.layer, Store.layer(Product.cache(cache))),
    ),
  )
/** Threads start with the first call: none where everything is cached. */
const pool = ({ jobs = availableParallelism() }: { readonly jobs: number | undefined }) =>
  Layer.unwrap(
    Effect.map(
      Effect.promise(() => import("./compute/Pool.ts")),
      ({ Pool }) => Pool.layer(jobs),
    ),
  )

const program = {
  description: "Assay: what does quantization cost, and which setting should I ship?",
  version: Product.version,
  commands: [
    Command.provide(Plan.command, store),
    Command.provide(Command.provide(Run.command, pool), store),
    Command.provide(Why.command, store),
    Command.provide(Results.command, store),
    List.command,
    Schema.command,
    Command.provide(Cache.stats, store),
    Command.provide(Cache.verify, store),
    Command.provide(Cache.gc, store),
    Cache.clear,
  ],
}
const called = Result.try(() => Command.interpret(program, process.argv.slice(2)))
const asked = Result.getOrElse(called, Effect.fail)
if (typeof asked === "string") process.stdout.write(`${asked}\n`)
else {
  const [NodeRuntime, Failure, Interrupt] = await Promise.all([
    import("@effect/platform-node/NodeRuntime"),
    import("./cli/Failure.ts"),
    import("./cli/Interrupt.ts"),
  ])
  Interrupt.limit(["SIGINT", "SIGTERM"])
  NodeRuntime.runMain(asked, {
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(Failure.codeOf(exit, (message) => process.stderr.write(`${message}\n`))),
  })
}
