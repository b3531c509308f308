/** Where a run's events are shown: a live view on a terminal, otherwise lines. Standard output is left to results. */
import * as Effect from "effect/Effect"
import { Progress, type Sink } from "../engine/run/Progress.ts"
import * as ProgressLines from "../engine/run/ProgressLines.ts"
import * as ProgressView from "../engine/run/ProgressView.ts"

export type Log = "text" | "json"

/** Colours are for terminals, and for those who did not ask to be spared them. */
export const color = (stream: NodeJS.WriteStream): boolean => stream.isTTY === true && !process.env["NO_COLOR"]

interface Shown extends Sink {
  readonly close: () => void
}

const open = (log: Log): Shown => {
  const { stderr, stdout } = process
  if (log === "json") return { ...ProgressLines.json((line) => void stdout.write(`${line}\n`)), close: () => {} }
  if (!stderr.isTTY) return { ...ProgressLines.lines((line) => void stderr.write(`${line}\n`)), close: () => {} }
  return ProgressView.open({
    write: (text) => void stderr.write(text),
    columns: () => stderr.columns || 80,
    rows: () => stderr.rows || 24,
    color: color(stderr),
  })
}

export const showing =
  (log: Log) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.acquireUseRelease(
      Effect.sync(() => open(log)),
      (shown) => Effect.provideService(effect, Progress, shown),
      (shown) => Effect.sync(shown.close),
    )
