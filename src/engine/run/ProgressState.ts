/** Where a run stands, folded from its events; and what follows from it: rates and the time that is left. */
import type { Event, StageCounts } from "./Progress.ts"

export interface Stage extends StageCounts {
  readonly done: number
  readonly failed: number
  readonly skipped: number
  readonly running: number
  /** Wall seconds of the cells that this run computed. */
  readonly seconds: number
}

export interface Running {
  readonly cell: string
  readonly stage: string
  /** Milliseconds. */
  readonly since: number
  readonly expected: number | undefined
  readonly progress:
    | {
        readonly done: number
        readonly total: number
        readonly unit: string
        readonly first: number
        readonly since: number
        readonly now: number
      }
    | undefined
}

export interface State {
  readonly study: string
  readonly jobs: number
  readonly stages: ReadonlyMap<string, Stage>
  readonly running: ReadonlyMap<string, Running>
}

export const initial: State = { study: "", jobs: 1, stages: new Map(), running: new Map() }

const count = (state: State, stage: string, change: (stage: Stage) => Partial<Stage>): State => {
  const before = state.stages.get(stage)
  if (before === undefined) return state
  return { ...state, stages: new Map(state.stages).set(stage, { ...before, ...change(before) }) }
}
const without = (state: State, cell: string): State => {
  const running = new Map(state.running)
  running.delete(cell)
  return { ...state, running }
}

/** @param now milliseconds */
export const reduce = (state: State, event: Event, now: number): State => {
  switch (event.event) {
    case "planned": {
      const stages = event.stages.map((counts): [string, Stage] => [
        counts.stage,
        { ...counts, done: 0, failed: 0, skipped: 0, running: 0, seconds: 0 },
      ])
      return { ...initial, study: event.study, jobs: event.jobs, stages: new Map(stages) }
    }
    case "started": {
      const { cell, expected, stage } = event
      const running = new Map(state.running).set(cell, { cell, stage, since: now, expected, progress: undefined })
      return count({ ...state, running }, stage, ({ running }) => ({ running: running + 1 }))
    }
    case "progress": {
      const before = state.running.get(event.cell)
      if (before === undefined) return state
      const { done, total, unit } = event
      // The rate is taken from the first report on: what comes before it is preparation.
      const { first, since } = before.progress?.unit === unit ? before.progress : { first: done, since: now }
      const progress = { done, total, unit, first, since, now }
      return { ...state, running: new Map(state.running).set(event.cell, { ...before, progress }) }
    }
    case "finished":
      return count(without(state, event.cell), event.stage, ({ done, running, seconds }) => ({
        done: done + 1,
        running: running - 1,
        seconds: seconds + event.seconds,
      }))
    case "failed": {
      const ran = state.running.has(event.cell) ? 1 : 0
      return count(without(state, event.cell), event.stage, ({ failed, running }) => ({
        failed: failed + 1,
        running: running - ran,
      }))
    }
    case "skipped":
      return count(state, event.stage, ({ skipped }) => ({ skipped: skipped + 1 }))
    case "found":
      return count(state, event.stage, ({ cached }) => ({ cached: cached + 1 }))
    default:
      return state
  }
}

/** Units per second; `undefined` until there are two reports. */
export const rateOf = ({ progress }: Running): number | undefined =>
  progress === undefined || progress.now <= progress.since || progress.done <= progress.first
    ? undefined
    : ((progress.done - progress.first) * 1000) / (progress.now - progress.since)

/** Seconds that a running cell still takes: by its own rate where it has one, otherwise by the runs before. */
const left = (running: Running, perCell: number | undefined, now: number): number | undefined => {
  const rate = rateOf(running)
  if (rate !== undefined) return (running.progress!.total - running.progress!.done) / rate
  const expected = running.expected ?? perCell
  return expected === undefined ? undefined : Math.max(0, expected - (now - running.since) / 1000)
}

/** Seconds to the end, if the cells that wait share the jobs; `undefined` where too little is known. */
export const eta = ({ jobs, running, stages }: State, now: number): number | undefined => {
  let work = 0
  let longest = 0
  for (const stage of stages.values()) {
    const perCell = stage.done > 0 ? stage.seconds / stage.done : stage.expected
    const waiting = stage.cells - stage.cached - stage.done - stage.failed - stage.skipped - stage.running
    if (waiting > 0 && perCell === undefined) return undefined
    work += Math.max(0, waiting) * (perCell ?? 0)
    for (const cell of running.values()) {
      if (cell.stage !== stage.stage) continue
      const seconds = left(cell, perCell, now)
      if (seconds === undefined) return undefined
      work += seconds
      longest = Math.max(longest, seconds)
    }
  }
  return Math.max(longest, work / jobs)
}
