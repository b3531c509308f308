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
import * as Blocks from "./Blocks.ts"

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

/** As `compute/Session.ts` opens and runs them; with a `folder`, each session has a profile of its own in it. */
const running = (folder: string | undefined) => {
  const sessions = new Map<string, ort.InferenceSession>()
  const open = async (key: string, graph: SharedArrayBuffer) => {
    const known = sessions.get(key)
    if (known !== undefined) return known
    const session = await ort.InferenceSession.create(Uint8Array.from(new Uint8Array(graph)), {
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      enableMemPattern: false,
      logSeverityLevel: 3,
      ...(folder !== undefined && { enableProfiling: true, profileFilePrefix: join(folder, String(sessions.size)) }),
    })
    sessions.set(key, session)
    return session
  }
  const runAll = async (calls: ReadonlyArray<RunArgument>) => {
    for (const { feeds, fetches, graph, key } of calls)
      await (await open(key, graph)).run(tensors(feeds), tensors(fetches))
  }
  const call = <A>(module: URL, name: string, argument: unknown): Effect.Effect<A, WorkerError> =>
    Effect.promise(async () =>
      module.pathname.endsWith("/Session.ts")
        ? runAll(argument as ReadonlyArray<RunArgument>)
        : (await import(module.href))[name](argument),
    )
  return { sessions, layer: Layer.succeed(Pool, { size: 1, memory: Lending.make(), call }) }
}

interface Spent {
  readonly op: string
  /** Microseconds. */
  time: number
  /** Has it a graph of its own, whose ops are in the profile too? */
  body: boolean
}

/** Passes that count: the one before opens sessions and touches memory. */
const PASSES = 2

/** Ops of one session in each of the passes. */
const spent = (events: ReadonlyArray<Event>): ReadonlyArray<ReadonlyArray<Spent>> => {
  const runs = events.filter(({ name }) => name === "model_run").toSorted((a, b) => a.ts - b.ts)
  const each = runs.length / (PASSES + 1)
  return Array.from({ length: PASSES }, (_, i) =>
    between(events, runs[(i + 1) * each]!.ts, runs[(i + 2) * each]?.ts ?? Infinity),
  )
}

const between = (events: ReadonlyArray<Event>, from: number, to: number): ReadonlyArray<Spent> => {
  const nodes = events
    .filter(({ args, cat, ts }) => cat === "Node" && args.op_name !== undefined && ts >= from && ts < to)
    .toSorted((a, b) => a.ts - b.ts || b.dur - a.dur)
  const ops: Array<Spent> = []
  let until = from
  for (const { args, dur, ts } of nodes) {
    // What begins before another has ended is of that one's body.
    if (ts < until) ops.at(-1)!.body = true
    else {
      ops.push({ op: args.op_name!, time: dur, body: false })
      until = ts + dur
    }
  }
  return ops
}

const sum = (ops: ReadonlyArray<Spent>, body: boolean) =>
  ops.reduce((total, op) => (op.body === body ? total + op.time : total), 0)

/** Each op's share in the time of a pass at its fastest, largest first. */
export const shares = <A, E>(
  pass: Effect.Effect<A, E, Pool>,
): Effect.Effect<ReadonlyArray<readonly [op: string, share: number]>, E> =>
  Effect.gen(function* () {
    const folder = mkdtempSync(join(tmpdir(), "profile-"))
    const profiled = running(folder)
    const sessions = yield* Effect.replicateEffect(pass, PASSES + 1, { discard: true }).pipe(
      Effect.provide(profiled.layer),
      Effect.map(() => {
        for (const session of profiled.sessions.values()) session.endProfiling()
        return readdirSync(folder).map((file) => spent(JSON.parse(readFileSync(join(folder, file), "utf8"))))
      }),
      Effect.ensuring(Effect.sync(() => rmSync(folder, { recursive: true, force: true }))),
    )
    const [ops] = Array.from({ length: PASSES }, (_, i) => sessions.flatMap((passes) => passes[i]!)).toSorted(
      (a, b) => sum(a, false) - sum(b, false),
    )
    const loops = sum(ops!, true)
    if (loops > 0) {
      // A note of each of their many small ops costs as much as the op: they have what others leave of a pass without notes.
      const [whole] = yield* Effect.provide(Blocks.race(PASSES, [pass]), running(undefined).layer)
      const left = Math.max(0, 1000 * whole! - sum(ops!, false)) / loops
      for (const op of ops!) if (op.body) op.time *= left
    }
    const total = sum(ops!, false) + sum(ops!, true)
    return [...Map.groupBy(ops!, ({ op }) => op)]
      .map(([op, own]) => [op, own.reduce((all, { time }) => all + time, 0) / total] as const)
      .toSorted(([, a], [, b]) => b - a)
  })
