/**
 * Gives shared memory back in time. A SharedArrayBuffer is freed when the last thread that has seen it collects its
 * garbage, but V8 does not count its bytes: threads that allocate little else would hold gigabytes of dead tensors.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

// The collector is not a global unless Node was started so; a new context gets what the flags say now.
setFlagsFromString("--expose-gc")
const gc = runInNewContext("gc") as () => void

/** Milliseconds between two collections of a thread. */
const INTERVAL = 1000

let last = performance.now()

/** Collect this thread's garbage, unless that was done within the last second. */
export const collect = (): void => {
  if (performance.now() - last < INTERVAL) return
  gc()
  last = performance.now()
}
