/** What a service could not do, as the failure of the stage that asked it. */
import * as Effect from "effect/Effect"
import { StageFailure } from "../src/engine/Problem.ts"

export const failing = <A, R>(
  effect: Effect.Effect<A, { readonly message: string }, R>,
): Effect.Effect<A, StageFailure, R> => Effect.mapError(effect, ({ message }) => new StageFailure({ reason: message }))
