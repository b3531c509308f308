/**
 * Single flight: one computation of a key at a time, among the fibers of a process and among processes.
 *
 * A lease is a row with its owner, the owner's last heartbeat and a token that grows with every lease given out. The row
 * of a dead owner is taken over; what that owner still publishes under its outlived token is refused. Nothing depends on
 * it but time: two that compute the same key publish the same bytes.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { decode, encode, key, Kind, sha256 } from "./Codec.ts"
import type { Database, Transaction } from "./Database.ts"
import { isAlive, type Owner } from "./Owner.ts"
import type { StoreError } from "./StoreError.ts"

/** The right to compute one key, held until the computation ends or its owner is found dead. */
export interface Lease {
  readonly key: string
  /** Grows with every lease given out; a publication under an outlived token is refused. */
  readonly token: number
}
interface Row {
  readonly owner: Owner
  readonly token: number
  readonly heartbeat: number
}

const tokens = key(Kind.system, sha256("fencing token"))

const json = (index: Database, at: Uint8Array): unknown => {
  const record = index.get(at)
  const payload = record && decode(at, record)
  return payload && JSON.parse(payload.toString())
}
const putJson = (transaction: Transaction, at: Uint8Array, value: unknown) =>
  transaction.put(at, encode(at, Buffer.from(JSON.stringify(value))))

const row = (index: Database, name: string) => json(index, key(Kind.lease, name)) as Row | undefined
export const holds = (index: Database, lease: Lease): boolean => row(index, lease.key)?.token === lease.token
export const release = (transaction: Transaction, lease: Lease) => transaction.remove(key(Kind.lease, lease.key))

const isFree = (held: Row | undefined, here: Owner) => held === undefined || !isAlive(held.owner, held.heartbeat, here)

const acquire = (index: Database, here: Owner, name: string): Effect.Effect<Lease | undefined, StoreError> =>
  Effect.suspend(() => {
    if (!isFree(row(index, name), here)) return Effect.succeed(undefined)
    return index.write((transaction) => {
      if (!isFree(row(index, name), here)) return undefined
      const token = ((json(index, tokens) as number | undefined) ?? 0) + 1
      putJson(transaction, tokens, token)
      putJson(transaction, key(Kind.lease, name), { owner: here, token, heartbeat: Date.now() } satisfies Row)
      return { key: name, token }
    })
  })

/** Milliseconds between two looks at another process's lease: quick at first, then half a second. */
const pause = (attempt: number) => Math.min(500, 20 * 1.5 ** attempt)

export const make = (index: Database, here: Owner) => {
  /** What this process computes now; each holds how it ended. */
  const flights = new Map<string, Deferred.Deferred<Exit.Exit<unknown, unknown>>>()
  const held = new Map<string, Lease>()

  const give = (lease: Lease) =>
    Effect.suspend(() => {
      held.delete(lease.key)
      return holds(index, lease)
        ? Effect.ignore(index.write((transaction) => holds(index, lease) && release(transaction, lease)))
        : Effect.void
    })

  const take = (name: string): Effect.Effect<Lease | undefined, StoreError> =>
    Effect.map(acquire(index, here, name), (lease) => {
      if (lease) held.set(name, lease)
      return lease
    })

  const lead = Effect.fnUntraced(function* <A, E, R, E2, R2>(
    name: string,
    lookup: Effect.Effect<A | undefined, E, R>,
    compute: (lease: Lease) => Effect.Effect<A, E2, R2>,
  ): Effect.fn.Return<A, E | E2 | StoreError, R | R2> {
    for (let attempt = 0; ; attempt++) {
      const found = yield* lookup
      if (found !== undefined) return found
      const computed = yield* Effect.acquireUseRelease(
        take(name),
        Effect.fnUntraced(function* (lease) {
          if (lease === undefined) return undefined
          // Another may have published between the first look and the lease.
          return { value: (yield* lookup) ?? (yield* compute(lease)) }
        }),
        (lease) => (lease === undefined ? Effect.void : give(lease)),
      )
      if (computed !== undefined) return computed.value
      yield* Effect.sleep(pause(attempt))
    }
  })

  const singleFlight = <A, E, R, E2, R2>(
    name: string,
    lookup: Effect.Effect<A | undefined, E, R>,
    compute: (lease: Lease) => Effect.Effect<A, E2, R2>,
  ): Effect.Effect<A, E | E2 | StoreError, R | R2> =>
    // Masked, so that no interruption falls between taking off and the promise to land.
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const flight = flights.get(name)
        if (flight === undefined) {
          const mine = Deferred.makeUnsafe<Exit.Exit<unknown, unknown>>()
          flights.set(name, mine)
          return Effect.onExit(restore(lead(name, lookup, compute)), (exit) =>
            Effect.sync(() => {
              flights.delete(name)
              Deferred.doneUnsafe(mine, Effect.succeed(exit))
            }),
          )
        }
        return restore(
          Effect.flatMap(Deferred.await(flight), (exit) =>
            Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)
              ? Effect.failCause(exit.cause as Cause.Cause<E2>)
              : singleFlight(name, lookup, compute),
          ),
        )
      }),
    )

  /** Tell that the owner of the held leases still lives. */
  const beat: Effect.Effect<void, StoreError> = Effect.suspend(() =>
    held.size === 0
      ? Effect.void
      : index.write((transaction) => {
          for (const { key: name, token } of held.values())
            if (holds(index, { key: name, token }))
              putJson(transaction, key(Kind.lease, name), { owner: here, token, heartbeat: Date.now() } satisfies Row)
        }),
  )

  return { singleFlight, beat }
}
