/** Cells by what a user calls them: `score`, `score[task=prose]` (all cells that have this label), or a whole id. */
import * as Effect from "effect/Effect"
import { suggest } from "../engine/study/Nearest.ts"
import type { Cell, Plan } from "../engine/plan/Plan.ts"
import { CallError } from "./CallError.ts"

const parse = (text: string) => {
  const [, stage, axes] = /^([^[\]]*?)\s*(?:\[(.*)\])?$/.exec(text.trim()) ?? ["", text, undefined]
  const labels = (axes ?? "").split(",").filter((part) => part.trim() !== "")
  return { stage: stage!, labels: labels.map((label) => label.split("=").map((part) => part.trim())) }
}

/** Fails when nothing is called so. */
export const cells = Effect.fnUntraced(function* <R>(plan: Plan<R>, text: string) {
  const exact = plan.cells.find((cell) => cell.id === text)
  if (exact !== undefined) return [exact]
  const { labels, stage } = parse(text)
  const candidates = plan.stages.get(stage)
  if (candidates === undefined)
    return yield* new CallError({ reason: `no stage '${stage}' in this study; ${suggest(stage, plan.stages.keys())}` })
  const chosen = candidates.filter(({ coordinates }) => labels.every(([axis, label]) => coordinates[axis!] === label))
  if (chosen.length > 0) return chosen
  const ids = candidates.map(({ id }) => id)
  return yield* new CallError({ reason: `no cell '${text}'; ${suggest(text, ids)}` })
})

/** The cells of all texts, in plan order. */
export const union = Effect.fnUntraced(function* <R>(plan: Plan<R>, texts: ReadonlyArray<string>) {
  const chosen = new Set<Cell<R>>()
  for (const text of texts) for (const cell of yield* cells(plan, text)) chosen.add(cell)
  return plan.cells.filter((cell) => chosen.has(cell))
})

/** Exactly one cell. */
export const one = Effect.fnUntraced(function* <R>(plan: Plan<R>, text: string) {
  const [first, second] = yield* cells(plan, text)
  if (second === undefined) return first!
  return yield* new CallError({
    reason: `'${text}' is several cells, ${first!.id} and ${second.id} among them; name one`,
  })
})
