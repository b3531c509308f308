/** What a computation ran on, and how much memory the process held meanwhile. Recorded, never part of a key. */
import { arch, cpus, platform } from "node:os"

export interface Description {
  readonly platform: string
  readonly cpu: string
}

/** Reading the processors takes a millisecond, and a run without computations has no use for it. */
let description: Description | undefined
export const describe = (): Description =>
  (description ??= { platform: `${platform()}-${arch()}`, cpu: cpus()[0]?.model.trim() ?? "unknown" })

/** Milliseconds between two looks at the resident set. */
const interval = 100

/** Largest resident set seen while something runs. The process is one: what runs at the same time is seen together. */
export interface Meter {
  /** Returns a function that ends the measurement and gives the peak in bytes. */
  readonly start: () => () => number
}

export const meter = (): Meter => {
  const peaks = new Set<{ bytes: number }>()
  let timer: NodeJS.Timeout | undefined
  const sample = () => {
    const bytes = process.memoryUsage.rss()
    for (const peak of peaks) peak.bytes = Math.max(peak.bytes, bytes)
  }
  return {
    start: () => {
      const peak = { bytes: 0 }
      peaks.add(peak)
      timer ??= setInterval(sample, interval).unref()
      return () => {
        sample()
        peaks.delete(peak)
        if (peaks.size === 0) {
          clearInterval(timer)
          timer = undefined
        }
        return peak.bytes
      }
    },
  }
}
