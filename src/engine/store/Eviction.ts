/** What to drop first: the bytes that take least time to compute again. */
import type { Trace } from "./Trace.ts"

export interface Item {
  readonly digest: string
  readonly bytes: number
  /** When it was last put (milliseconds since 1970); 0 where that is not known. */
  readonly used: number
  readonly kind: "document" | "blob"
}

const objectsOf = (trace: Trace): ReadonlyArray<string> => {
  const { log } = trace.provenance
  return [trace.output, ...trace.blobs, ...(log === undefined ? [] : [log])]
}

/**
 * The items to evict, in order, to free `excess` bytes, and the seconds it would take to compute them again.
 *
 * One lost object costs its whole trace, so a trace's objects share one value: its seconds over all its bytes, and the
 * highest when several traces name an object. What no trace names has none. Of equal value, the oldest goes first.
 * Documents are small and answer most questions, so they go only when no blob is left to go.
 */
export const evictions = (options: {
  readonly items: ReadonlyArray<Item>
  readonly traces: ReadonlyArray<Trace>
  /** Keys of the traces whose objects stay. */
  readonly keep: ReadonlySet<string>
  readonly excess: number
}): { readonly items: ReadonlyArray<Item>; readonly bytes: number; readonly seconds: number } => {
  const sizes = new Map(options.items.map(({ digest, bytes }) => [digest, bytes]))
  const values = new Map<string, number>()
  for (const trace of options.traces) {
    const objects = objectsOf(trace)
    const bytes = objects.reduce((sum, digest) => sum + (sizes.get(digest) ?? 0), 0)
    const value = options.keep.has(trace.key) ? Number.POSITIVE_INFINITY : trace.provenance.seconds / Math.max(1, bytes)
    for (const digest of objects) values.set(digest, Math.max(value, values.get(digest) ?? 0))
  }
  const valueOf = ({ digest }: Item) => values.get(digest) ?? 0

  const chosen: Array<Item> = []
  let bytes = 0
  const order = options.items
    .filter((item) => valueOf(item) < Number.POSITIVE_INFINITY)
    .toSorted((a, b) => (a.kind === b.kind ? valueOf(a) - valueOf(b) || a.used - b.used : a.kind === "blob" ? -1 : 1))
  for (const item of order) {
    if (bytes >= options.excess) break
    chosen.push(item)
    bytes += item.bytes
  }
  const gone = new Set(chosen.map(({ digest }) => digest))
  const rebuilt = options.traces.filter((trace) => objectsOf(trace).some((digest) => gone.has(digest)))
  return { items: chosen, bytes, seconds: rebuilt.reduce((sum, trace) => sum + trace.provenance.seconds, 0) }
}
