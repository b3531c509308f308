/** Runs a graph in this thread: for graphs of a few nodes. */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as Session from "../../src/compute/Session.ts"
import type * as Slab from "../../src/compute/Slab.ts"
import type { Graph } from "../../src/onnx/Graph.ts"

type Slabs = { readonly [name: string]: Slab.Slab }

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")

export const run = (graph: Graph, feeds: Slabs, fetches: Slabs): Effect.Effect<void> => {
  const bytes = graph.toBytes()
  const shared = new SharedArrayBuffer(bytes.length)
  new Uint8Array(shared).set(bytes)
  return Effect.promise(() => Session.run({ key: sha256(bytes), graph: shared, feeds, fetches }))
}
