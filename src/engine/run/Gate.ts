/** Lets so many through at a time. Of those that wait, the first in order goes first, not the first to come. */
import * as Effect from "effect/Effect"

interface Waiting {
  readonly order: number
  readonly enter: () => void
}

export interface Gate {
  readonly pass: <A, E, R>(order: number, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

export const make = (permits: number): Gate => {
  let free = permits
  /** In descending order, unless someone came since. */
  const waiting: Array<Waiting> = []
  let isSorted = true
  let isScheduled = false

  const admit = () => {
    isScheduled = false
    if (!isSorted) waiting.sort((a, b) => b.order - a.order)
    isSorted = true
    while (free > 0 && waiting.length > 0) {
      free -= 1
      waiting.pop()!.enter()
    }
  }
  /** All who come in the same turn of the event loop are compared before any is let in. */
  const schedule = () => {
    if (!isScheduled) setImmediate(admit)
    isScheduled = true
  }
  const enter = (order: number) =>
    Effect.callback<void>((resume) => {
      const me: Waiting = { order, enter: () => resume(Effect.void) }
      waiting.push(me)
      isSorted = false
      schedule()
      return Effect.sync(() => {
        const at = waiting.indexOf(me)
        if (at >= 0) waiting.splice(at, 1)
      })
    })
  const leave = Effect.sync(() => {
    free += 1
    schedule()
  })
  return {
    pass: (order, effect) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(enter(order)), () => Effect.ensuring(restore(effect), leave)),
      ),
  }
}
