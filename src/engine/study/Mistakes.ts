/** Collects mistakes while checking goes on, so that a study's author sees all of them at once. */
import * as Effect from "effect/Effect"
import type { Position } from "./Document.ts"
import { StudyError, StudyErrors } from "../Problem.ts"

const order = (a: StudyError, b: StudyError) =>
  a.file === b.file ? a.line - b.line || a.column - b.column : a.file < b.file ? -1 : 1

export class Mistakes {
  /** By message: many cells may meet the same mistake in one line. */
  readonly #found = new Map<string, StudyError>()

  add({ file, line, column }: Position, reason: string): void {
    const error = new StudyError({ file, line, column, reason })
    this.#found.set(error.message, error)
  }

  get any(): boolean {
    return this.#found.size > 0
  }

  /** Fails with what was found so far, in order of place, or does nothing. */
  readonly check: Effect.Effect<void, StudyErrors> = Effect.suspend(() => {
    const [first, ...rest] = [...this.#found.values()].toSorted(order)
    return first === undefined ? Effect.void : Effect.fail(new StudyErrors({ errors: [first, ...rest] }))
  })
}
