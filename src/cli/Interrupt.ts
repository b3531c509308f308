/**
 * Ctrl-C ends a run in an orderly way: fibers are interrupted, leases given back, the store closed. A thread inside
 * native code cannot be interrupted, though, and the process would wait for it: after a moment, or at a second Ctrl-C,
 * the signal takes its usual course.
 */

/** Milliseconds that an orderly end may take. */
const patience = 1_000

export const limit = (signals: ReadonlyArray<NodeJS.Signals>): void => {
  for (const signal of signals) {
    const end = () => {
      process.removeAllListeners(signal)
      process.kill(process.pid, signal)
    }
    process.once(signal, () => {
      setTimeout(end, patience).unref()
      process.once(signal, end)
    })
  }
}
