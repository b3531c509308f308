/** What happens during a run, as data. Whoever shows it decides how: see `ProgressLines.ts` and `ProgressView.ts`. */
import * as Context from "effect/Context"

/** How much of a stage there is, and how much of it is not to be computed. */
export interface StageCounts {
  readonly stage: string
  readonly cells: number
  readonly cached: number
  /** Seconds that one of its cells should take, by the runs before. */
  readonly expected?: number
}

export type Event =
  /** The plan is made; nothing has started. */
  | {
      readonly event: "planned"
      readonly study: string
      readonly jobs: number
      readonly stages: ReadonlyArray<StageCounts>
    }
  /** Was there from the start. `seconds`: what it took to compute then. */
  | { readonly event: "cached"; readonly cell: string; readonly stage: string; readonly seconds: number }
  /** Turned out to be there: its inputs came out as before, or another computed it meanwhile. */
  | { readonly event: "found"; readonly cell: string; readonly stage: string; readonly seconds: number }
  /** `expected`: seconds it should take, by the runs before. */
  | { readonly event: "started"; readonly cell: string; readonly stage: string; readonly expected?: number }
  | {
      readonly event: "progress"
      readonly cell: string
      readonly done: number
      readonly total: number
      readonly unit: string
    }
  | { readonly event: "log"; readonly cell: string; readonly message: string }
  /** Computed and stored. `peakMemory` in bytes. */
  | {
      readonly event: "finished"
      readonly cell: string
      readonly stage: string
      readonly seconds: number
      readonly peakMemory: number
    }
  | { readonly event: "failed"; readonly cell: string; readonly stage: string; readonly reason: string }
  /** Not computed: `because` names the failed cell it depends on; without it, the run was stopping. */
  | { readonly event: "skipped"; readonly cell: string; readonly stage: string; readonly because?: string }

export interface Sink {
  readonly emit: (event: Event) => void
}

/** Where events go. Nowhere, unless something is provided. */
export const Progress = Context.Reference<Sink>("assay/engine/Progress", {
  defaultValue: () => ({ emit: () => {} }),
})
