/**
 * Runs in a worker: ONNX Runtime sessions, opened once per graph, fed and fetched through shared memory.
 *
 * Outputs are written straight into the given slabs. ONNX Runtime also hands each of them back as a fresh copy, which is
 * why a cache is never an output: its new rows are, and they are appended to it here.
 */
import * as ort from "onnxruntime-node"
import * as Slab from "./Slab.ts"

export interface RunArgument {
  /** Identifies the graph: equal keys mean equal bytes. */
  readonly key: string
  readonly graph: SharedArrayBuffer
  readonly feeds: { readonly [name: string]: Slab.Slab }
  readonly fetches: { readonly [name: string]: Slab.Slab }
  /** Done after the run. */
  readonly appends?: ReadonlyArray<Append>
  readonly replaces?: ReadonlyArray<Replace>
  /** Close the session afterwards, with the memory it keeps for activations. */
  readonly last?: boolean
}
/** Rows that are to be copied once they are there: `rows` [batch, sequence, heads x dim] -> from position `at` of each. */
export interface Append {
  readonly rows: Slab.Slab
  /** [batch, heads, capacity, dim] */
  readonly cache: Slab.Slab
  readonly at: ReadonlyArray<number>
}
/** A state that was read during the run and gets its successor after it. */
export interface Replace {
  readonly from: Slab.Slab
  readonly to: Slab.Slab
}

const sessions = new Map<string, Promise<ort.InferenceSession>>()

const open = (key: string, graph: SharedArrayBuffer) => {
  let session = sessions.get(key)
  if (session === undefined) {
    session = ort.InferenceSession.create(Uint8Array.from(new Uint8Array(graph)), {
      // One thread per worker: how a product is split over threads could otherwise change its rounding.
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      // Memory for activations is kept between calls: fresh pages cost a fifth of a block's time.
      enableCpuMemArena: true,
      // A plan for all activations of a run in one piece finds no such piece in what the first run has left in the arena:
      // memory would grow by as much again (a seventh of all for a 7B block), for no measurable speed.
      enableMemPattern: false,
      logSeverityLevel: 3,
    })
    sessions.set(key, session)
  }
  return session
}

const tensors = (slabs: { readonly [name: string]: Slab.Slab }) =>
  Object.fromEntries(
    Object.entries(slabs).map(([name, slab]) => [
      name,
      // The type says plain arrays; shared ones are taken without a copy.
      new ort.Tensor(slab.type, Slab.view(slab) as never, slab.dims),
    ]),
  )

const append = ({ at, cache, rows }: Append): void => {
  const [, heads, capacity, dim] = cache.dims as [number, number, number, number]
  const sequence = rows.dims[1]!
  const [from, to] = [Slab.floats(rows), Slab.floats(cache)]
  at.forEach((start, item) => {
    for (let i = 0; i < sequence; i++) {
      for (let head = 0; head < heads; head++) {
        const first = ((item * sequence + i) * heads + head) * dim
        to.set(from.subarray(first, first + dim), ((item * heads + head) * capacity + start + i) * dim)
      }
    }
  })
}

/** Run a graph once. Resolves when every fetched slab is written. */
export const run = async ({ appends, feeds, fetches, graph, key, last, replaces }: RunArgument): Promise<void> => {
  const session = await open(key, graph)
  await session.run(tensors(feeds), tensors(fetches))
  appends?.forEach(append)
  replaces?.forEach(({ from, to }) => Slab.floats(to).set(Slab.floats(from)))
  if (last !== true) return
  sessions.delete(key)
  await session.release()
}

/** One after the other, where each needs what those before it wrote. */
export const runAll = async (calls: ReadonlyArray<RunArgument>): Promise<void> => {
  for (const call of calls) await run(call)
}
