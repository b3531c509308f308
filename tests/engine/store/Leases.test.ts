import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { spawnSync } from "node:child_process"
import { encode, key, Kind, sha256 } from "../../../src/engine/store/Codec.ts"
import type { Lease } from "../../../src/engine/store/Leases.ts"
import * as Owner from "../../../src/engine/store/Owner.ts"
import { Store } from "../../../src/engine/store/Store.ts"
import { keyOf, traceOf } from "../children/workload.ts"
import * as temporary from "../temporary.ts"

const live = (name: string, test: Effect.Effect<void, unknown, Store>) =>
  it.live(name, () => Effect.provide(test, temporary.store))

/** A key that a counter computes and a map remembers. */
const counter = (work: Effect.Effect<void, string> = Effect.sleep(20)) => {
  const known = new Map<string, number>()
  let computed = 0
  const get = (name: string) =>
    Effect.flatMap(Store, (store) =>
      store.singleFlight(
        sha256(name),
        Effect.sync(() => known.get(name)),
        () =>
          Effect.map(work, () => {
            known.set(name, ++computed)
            return computed
          }),
      ),
    )
  return { get, known, computed: () => computed }
}

/** Leaves a lease row as another process would. */
const foreign = (name: string, owner: Partial<Owner.Owner>, heartbeat = Date.now()) =>
  Effect.flatMap(Store, ({ files }) =>
    files.index.write((transaction) => {
      const at = key(Kind.lease, sha256(name))
      const row = { owner: { ...Owner.self(), ...owner }, token: 1_000, heartbeat }
      transaction.put(at, encode(at, Buffer.from(JSON.stringify(row))))
    }),
  )
const release = (name: string) =>
  Effect.flatMap(Store, ({ files }) =>
    files.index.write((transaction) => transaction.remove(key(Kind.lease, sha256(name)))),
  )
/** Process 1 lives as long as the machine. */
const startOfInit = Owner.startOf(1)
const deadPid = () => spawnSync(process.execPath, ["-e", ""]).pid

live(
  "a hundred fibers compute one key once",
  Effect.gen(function* () {
    const { get, computed } = counter()
    const values = yield* Effect.all(
      Array.from({ length: 100 }, () => get("one")),
      { concurrency: "unbounded" },
    )
    assert.deepStrictEqual(new Set(values), new Set([1]))
    assert.strictEqual(computed(), 1)
  }),
)

live(
  "those who wait share a failure; the next to ask tries again",
  Effect.gen(function* () {
    let tries = 0
    const { get } = counter(
      Effect.andThen(
        Effect.sleep(20),
        Effect.suspend(() => Effect.fail(`try ${++tries}`)),
      ),
    )
    const exits = yield* Effect.all(
      Array.from({ length: 5 }, () => Effect.flip(get("one"))),
      { concurrency: 5 },
    )
    assert.deepStrictEqual(exits, ["try 1", "try 1", "try 1", "try 1", "try 1"])
    assert.strictEqual(yield* Effect.flip(get("one")), "try 2")
  }),
)

live(
  "the next takes over when the first is interrupted",
  Effect.gen(function* () {
    const { get, computed } = counter(Effect.sleep(100))
    const first = yield* Effect.forkChild(get("one"))
    yield* Effect.sleep(30)
    const second = yield* Effect.forkChild(get("one"))
    yield* Effect.sleep(10)
    yield* Fiber.interrupt(first)
    assert.strictEqual(yield* Fiber.join(second), 1)
    assert.strictEqual(computed(), 1)
  }),
)

live(
  "waits for a live owner, and finds what it published",
  Effect.gen(function* () {
    const { get, known, computed } = counter()
    yield* foreign("one", { pid: 1, start: startOfInit, session: "another" })
    const waiting = yield* Effect.forkChild(get("one"))
    yield* Effect.sleep(150)
    assert.isUndefined(waiting.pollUnsafe())
    known.set("one", 42)
    yield* release("one")
    assert.strictEqual(yield* Fiber.join(waiting), 42)
    assert.strictEqual(computed(), 0)
  }),
)

for (const [why, owner, heartbeat] of [
  ["is gone", () => ({ pid: deadPid() }), () => Date.now()],
  ["has a PID that another process has now", () => ({ start: "1" }), () => Date.now()],
  ["ran before the machine was restarted", () => ({ boot: "earlier" }), () => Date.now()],
  ["is silent on another host", () => ({ host: "elsewhere" }), () => Date.now() - 61_000],
] as const)
  live(
    `takes over from an owner that ${why}`,
    Effect.gen(function* () {
      const { get, computed } = counter()
      yield* foreign("one", owner(), heartbeat())
      assert.strictEqual(yield* get("one"), 1)
      assert.strictEqual(computed(), 1)
    }),
  )

live(
  "waits for an owner that is heard from on another host",
  Effect.gen(function* () {
    const { get } = counter()
    yield* foreign("one", { host: "elsewhere", pid: 0 })
    const waiting = yield* Effect.forkChild(get("one"))
    yield* Effect.sleep(100)
    assert.isUndefined(waiting.pollUnsafe())
    yield* Fiber.interrupt(waiting)
  }),
)

live(
  "refuses what a fenced owner publishes",
  Effect.gen(function* () {
    const store = yield* Store
    const publish = (lease: Lease) => store.publish({ trace: traceOf(1, sha256("{}"), []), documents: ["{}"], lease })
    const outcome = yield* store.singleFlight(
      keyOf(1),
      Effect.sync(() => undefined),
      Effect.fnUntraced(function* (lease) {
        // Another process found this one dead, and took the lease.
        yield* store.files.index.write((transaction) => {
          const at = key(Kind.lease, keyOf(1))
          const row = { owner: Owner.self(), token: lease.token + 1, heartbeat: Date.now() }
          transaction.put(at, encode(at, Buffer.from(JSON.stringify(row))))
        })
        return (yield* publish(lease)).outcome
      }),
    )
    assert.strictEqual(outcome, "fenced")
    assert.isUndefined(store.trace(keyOf(1)))
    assert.isUndefined(store.getDocument(sha256("{}")))
  }),
)

live(
  "gives every lease a higher token, and gives them back, whatever happens",
  Effect.gen(function* () {
    const store = yield* Store
    const tokens: Array<number> = []
    const ends = [Effect.succeed(1), Effect.fail("no"), Effect.die("bug"), Effect.interrupt]
    for (const end of ends) {
      const exit = yield* Effect.exit(
        store.singleFlight(
          sha256("one"),
          Effect.sync(() => undefined),
          (lease) =>
            Effect.andThen(
              Effect.sync(() => tokens.push(lease.token)),
              end,
            ),
        ),
      )
      assert.strictEqual(Exit.isSuccess(exit), end === ends[0])
      assert.isUndefined(store.files.index.get(key(Kind.lease, sha256("one"))))
    }
    assert.deepStrictEqual(tokens, [1, 2, 3, 4])
  }),
)
