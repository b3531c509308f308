/** Where a pass spends its time: the work of a pool done on the calling thread, with ONNX Runtime's profiler on. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as ort from "onnxruntime-node"
import * as Lending from "../../src/compute/Lending.ts"
import { Pool, type WorkerError } from "../../src/compute/Pool.ts"
import type { RunArgument } from "../../src/compute/Session.ts"
import * as Slab from "../../src/compute/Slab.ts"

interface Event {
  readonly cat: string
  readonly name: string
  /** Microseconds. */
  readonly ts: number
  readonly dur: number
  readonly args: { readonly op_name?: string }
}

const tensors = (slabs: { readonly [name: string]: Slab.Slab }) =>
  Object.fromEntries(
    Object.entries(slabs).map(([name, slab]) => [name, new ort.Tensor(slab.type, Slab.view(slab) as never, slab.dims)]),
  )

/** As `compute/Session.ts` opens and runs them, each session with a profile of its own in `folder`. */
const profiled = (folder: string) => {
  const sessions = new Map<string, ort.InferenceSession>()
  const open = async (key: string, graph: SharedArrayBuffer) => {
    const known = sessions.get(key)
    if (known !== undefined) return known
    const session = await ort.InferenceSession.create(Uint8Array.from(new Uint8Array(graph)), {
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      enableMemPattern: false,
      logSeverityLevel: 3,
      enableProfiling: true,
      profileFilePrefix: join(folder, String(sessions.size)),
    })
    sessions.set(key, session)
    return session
  }
  const runAll = async (calls: ReadonlyArray<RunArgument>) => {
    for (const { feeds, fetches, graph, key } of calls)
      await (await open(key, graph)).run(tensors(feeds), tensors(fetches))
  }
  const end = () => {
    for (const session of sessions.values()) session.endProfiling()
    return readdirSync(folder).map((file) => JSON.parse(readFileSync(join(folder, file), "utf8")) as Array<Event>)
  }
  return { runAll, end }
}

/** Microseconds by op, in the later half of the runs: the first open sessions and touch memory. */
const times = (events: ReadonlyArray<Event>): ReadonlyArray<readonly [op: string, microseconds: number]> => {
  const runs = events.filter(({ name }) => name === "model_run").toSorted((a, b) => a.ts - b.ts)
  const from = runs[runs.length / 2]?.ts ?? 0
  let until = from
  return events
    .filter(({ args, cat, ts }) => cat === "Node" && args.op_name !== undefined && ts >= from)
    .toSorted((a, b) => a.ts - b.ts || b.dur - a.dur)
    .flatMap(({ args, dur, ts }) => {
      // What begins before another has ended is of that one's body.
      if (ts < until) return []
      until = ts + dur
      return [[args.op_name!, dur] as const]
    })
}

/** Each op's share in the time of a pass, largest first. An op with a body has the time of its body. */
export const shares = <A, E>(
  pass: Effect.Effect<A, E, Pool>,
): Effect.Effect<ReadonlyArray<readonly [op: string, share: number]>, E> =>
  Effect.suspend(() => {
    const folder = mkdtempSync(join(tmpdir(), "profile-"))
    const { end, runAll } = profiled(folder)
    const call = <B>(module: URL, name: string, argument: unknown): Effect.Effect<B, WorkerError> =>
      Effect.promise(async () =>
        module.pathname.endsWith("/Session.ts")
          ? runAll(argument as ReadonlyArray<RunArgument>)
          : (await import(module.href))[name](argument),
      )
    const twice = Effect.provide(
      Effect.andThen(pass, pass),
      Layer.succeed(Pool, { size: 1, memory: Lending.make(), call }),
    )
    const summed = Effect.map(twice, () => {
      const byOp = Map.groupBy(end().flatMap(times), ([op]) => op)
      const sums = [...byOp].map(([op, spent]) => [op, spent.reduce((sum, [, time]) => sum + time, 0)] as const)
      const total = sums.reduce((sum, [, time]) => sum + time, 0)
      return sums.map(([op, time]) => [op, time / total] as const).toSorted(([, a], [, b]) => b - a)
    })
    return Effect.ensuring(
      summed,
      Effect.sync(() => rmSync(folder, { recursive: true, force: true })),
    )
  })
