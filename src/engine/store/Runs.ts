/** Live runs. While one lives, `gc` leaves alone what it holds and whatever was put since its store was opened. */
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import { decode, digestIn, encode, key, Kind } from "./Codec.ts"
import type { Database } from "./Database.ts"
import { isAlive, type Owner } from "./Owner.ts"
import type { StoreError } from "./StoreError.ts"

export interface Run {
  readonly owner: Owner
  readonly study: string
  /** Milliseconds since 1970: what was put later is the run's. */
  readonly since: number
  readonly heartbeat: number
  /** Keys of the traces whose objects must stay. */
  readonly holds: ReadonlyArray<string>
}

const write = (index: Database, id: string, run: Run) =>
  index.write((transaction) => {
    const at = key(Kind.run, id)
    transaction.put(at, encode(at, Buffer.from(JSON.stringify(run))))
  })
/** Announced for as long as the effect lasts. */
export const during = <A, E, R>(
  index: Database,
  announced: Map<string, Run>,
  run: Run,
  effect: Effect.Effect<A, E, R>,
): Effect.Effect<A, E | StoreError, R> =>
  Effect.suspend(() => {
    const id = randomBytes(32).toString("hex")
    return Effect.acquireUseRelease(
      Effect.tap(write(index, id, run), () => Effect.sync(() => announced.set(id, run))),
      () => effect,
      () =>
        Effect.andThen(
          Effect.sync(() => announced.delete(id)),
          Effect.ignore(forget(index, [id])),
        ),
    )
  })

/** Tell that the announced runs still live. */
export const beat = (index: Database, announced: ReadonlyMap<string, Run>) =>
  Effect.forEach(announced, ([id, run]) => write(index, id, { ...run, heartbeat: Date.now() }), { discard: true })

/** The live runs, and the names of the rows that dead ones left behind. */
export const all = (index: Database, here: Owner) => {
  const live: Array<Run & { readonly id: string }> = []
  const dead: Array<string> = []
  for (const at of index.keys(Uint8Array.of(Kind.run))) {
    const record = index.get(at)
    const payload = record && decode(at, record)
    const run = payload && (JSON.parse(payload.toString()) as Run)
    const id = digestIn(at)
    if (run && isAlive(run.owner, run.heartbeat, here)) live.push({ ...run, id })
    else dead.push(id)
  }
  return { live, dead }
}

export const forget = (index: Database, ids: ReadonlyArray<string>): Effect.Effect<void, StoreError> =>
  ids.length === 0
    ? Effect.void
    : index.write((transaction) => ids.forEach((id) => transaction.remove(key(Kind.run, id))))
