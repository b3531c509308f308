/** The worker pool: typed errors, threads that die, interruption, and no more threads than asked for. */
import { assert, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { Pool, WorkerError } from "../../src/compute/Pool.ts"

const module = new URL("./workerModule.ts", import.meta.url)
const call = <A>(name: string, argument?: unknown) =>
  Effect.flatMap(Pool, (pool) => pool.call<A>(module, name, argument))
const error = (name: string, argument?: unknown) => Effect.flip(call(name, argument))
const counter = () => new SharedArrayBuffer(8)
const read = (counter: SharedArrayBuffer) => Atomics.load(new Int32Array(counter), 0)

layer(Pool.layer(2), { excludeTestServices: true })("two threads", (it) => {
  it.effect("answer many calls, each its own", () =>
    Effect.gen(function* () {
      const numbers = Array.from({ length: 50 }, (_, i) => i)
      const doubled = yield* Effect.forEach(numbers, (n) => call<number>("double", n), { concurrency: "unbounded" })
      assert.deepStrictEqual(
        doubled,
        numbers.map((n) => 2 * n),
      )
      const threads = yield* Effect.forEach(numbers, () => call<number>("thread"), { concurrency: "unbounded" })
      assert.isAtMost(new Set(threads).size, 2)
    }),
  )
  it.effect("what a worker throws arrives typed", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* error("typed", 3), new WorkerError({ tag: "Odd", reason: "3 is odd" }))
      assert.deepStrictEqual(yield* error("plain"), new WorkerError({ tag: "RangeError", reason: "out of range" }))
      assert.deepStrictEqual(yield* error("text"), new WorkerError({ tag: "Error", reason: "just text" }))
      assert.strictEqual((yield* error("absent")).tag, "TypeError")
      const pool = yield* Pool
      const missing = yield* Effect.flip(pool.call(new URL("./no-such-module.ts", import.meta.url), "x", 0))
      assert.match(missing.message, /no-such-module/)
      assert.strictEqual(yield* call("double", 4), 8)
    }),
  )
  it.effect("a thread that dies fails its call only; another takes its place", () =>
    Effect.gen(function* () {
      const shared = counter()
      const neighbour = yield* Effect.forkChild(call<number>("slow", { counter: shared, milliseconds: 300 }))
      const lost = yield* error("die")
      assert.strictEqual(lost.tag, "WorkerLost")
      assert.match(lost.message, /ended with code 3/)
      assert.strictEqual(yield* Fiber.join(neighbour), 2)
      const waiting = Array.from({ length: 4 }, (_, i) =>
        i % 2 ? Effect.flip(call<number>("die")) : call<number>("double", i),
      )
      const answers = yield* Effect.all(waiting, { concurrency: "unbounded" })
      assert.deepStrictEqual([answers[0], answers[2]], [0, 4])
    }),
  )
  it.effect("a result that cannot be sent is an error of its call", () =>
    Effect.gen(function* () {
      const refused = yield* error("uncloneable")
      assert.match(refused.message, /could not be cloned/)
      assert.strictEqual(yield* call("double", 4), 8)
    }),
  )
  it.effect("an argument that cannot be sent is a bug, and costs no thread", () =>
    Effect.gen(function* () {
      for (let i = 0; i < 3; i++) {
        const exit = yield* Effect.exit(call("double", () => 1))
        assert.isTrue(Exit.isFailure(exit))
      }
      assert.strictEqual(yield* call("double", 4), 8)
    }),
  )
})

layer(Pool.layer(1), { excludeTestServices: true })("one thread", (it) => {
  it.effect("a call that is interrupted while it waits never starts", () =>
    Effect.gen(function* () {
      const [first, second] = [counter(), counter()]
      const running = yield* Effect.forkChild(call<number>("slow", { counter: first, milliseconds: 200 }))
      yield* Effect.sleep(50)
      const waiting = yield* Effect.forkChild(call<number>("slow", { counter: second, milliseconds: 1 }))
      yield* Effect.sleep(10)
      yield* Fiber.interrupt(waiting)
      assert.strictEqual(yield* Fiber.join(running), 2)
      assert.strictEqual(yield* call("double", 1), 2)
      assert.strictEqual(read(second), 0)
    }),
  )
  it.effect("an interrupted call lets go at once; the thread finishes and serves the next", () =>
    Effect.gen(function* () {
      const shared = counter()
      const running = yield* Effect.forkChild(call<number>("slow", { counter: shared, milliseconds: 400 }))
      while (read(shared) === 0) yield* Effect.sleep(5)
      const before = performance.now()
      yield* Fiber.interrupt(running)
      assert.isBelow(performance.now() - before, 200)
      assert.strictEqual(yield* call("double", 21), 42)
      assert.strictEqual(read(shared), 2)
    }),
  )
})

it.live("closing waits for calls under way, and starts none of those that wait", () =>
  Effect.gen(function* () {
    const shared = counter()
    let running: Fiber.Fiber<number, WorkerError> | undefined
    yield* Effect.gen(function* () {
      running = yield* Effect.forkDetach(call<number>("slow", { counter: shared, milliseconds: 500 }))
      while (read(shared) === 0) yield* Effect.sleep(5)
      yield* Effect.forkDetach(call<number>("slow", { counter: shared, milliseconds: 0 }))
    }).pipe(Effect.provide(Pool.layer(1)))
    assert.strictEqual(read(shared), 2)
    assert.strictEqual(yield* Fiber.join(running!), 2)
  }),
)
