/**
 * Runs in a worker: ONNX Runtime sessions, opened once per graph, fed and fetched through shared memory.
 *
 * Outputs are written straight into the given slabs. A cache that is both fed and fetched (the same slab) is appended
 * to in place.
 */
import * as ort from "onnxruntime-node"
import * as Slab from "./Slab.ts"

export interface RunArgument {
  /** Identifies the graph: equal keys mean equal bytes. */
  readonly key: string
  readonly graph: SharedArrayBuffer
  readonly feeds: { readonly [name: string]: Slab.Slab }
  readonly fetches: { readonly [name: string]: Slab.Slab }
}

const sessions = new Map<string, Promise<ort.InferenceSession>>()

const open = (key: string, graph: SharedArrayBuffer) => {
  let session = sessions.get(key)
  if (session === undefined) {
    session = ort.InferenceSession.create(Uint8Array.from(new Uint8Array(graph)), {
      // One thread per worker: how a product is split over threads could otherwise change its rounding.
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      // Without the arena a call's activations are freed after it.
      enableCpuMemArena: false,
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

/** Run a graph once. Resolves when every fetched slab is written. */
export const run = async ({ feeds, fetches, graph, key }: RunArgument): Promise<void> => {
  const session = await open(key, graph)
  await session.run(tensors(feeds), tensors(fetches))
}
