/**
 * Gives shared memory back in time. A SharedArrayBuffer is freed when the last thread that has seen it collects its
 * garbage, but V8 does not count its bytes: threads that allocate little else would hold gigabytes of dead tensors.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

// The collector is not a global unless Node was started so; a new context gets what the flags say now.
setFlagsFromString("--expose-gc")
const gc = runInNewContext("gc") as () => void

/** Milliseconds between two collections of a thread: each stops it for tens of them. */
const INTERVAL = 1000
/** Bytes by which the process may grow before it is worth one. */
const GROWTH = 128 << 20

let last = performance.now()
let resident = process.memoryUsage.rss()

/** Collect this thread's garbage, if the process has grown since it last did. */
export const collect = (): void => {
  if (performance.now() - last < INTERVAL) return
  last = performance.now()
  const now = process.memoryUsage.rss()
  // What other threads have freed meanwhile is room that may be taken again before it counts as growth.
  resident = Math.min(resident, now)
  if (now - resident < GROWTH) return
  gc()
  resident = process.memoryUsage.rss()
}
