/** Events as lines: one sentence each for a log file, or one JSON object each for a program. */
import type { Event, Sink } from "./Progress.ts"
import { count, duration } from "./Quantities.ts"

const clock = () => new Date().toTimeString().slice(0, 8)

/** Milliseconds between two lines about the same running cell. */
const patience = 10_000

/**
 * Leaves out what would drown the rest: of cached cells only their number is told, of progress a line now and then;
 * what cells log is kept with their results.
 */
export const lines = (write: (line: string) => void): Sink => {
  const told = new Map<string, number>()
  const say = (text: string) => write(`${clock()}  ${text}`)
  const emit = (event: Event) => {
    switch (event.event) {
      case "planned": {
        for (const { stage, cached, cells } of event.stages)
          say(`${stage}: ${count(cells, "cell")}, ${cached === cells ? "all" : cached} cached`)
        return
      }
      case "started":
        told.set(event.cell, Date.now())
        return say(`${event.cell}: started${event.expected === undefined ? "" : `, about ${duration(event.expected)}`}`)
      case "progress": {
        if (Date.now() - (told.get(event.cell) ?? 0) < patience) return
        told.set(event.cell, Date.now())
        return say(`${event.cell}: ${event.done} of ${event.total} ${event.unit}`)
      }
      case "finished":
        return say(`${event.cell}: done in ${duration(event.seconds)}`)
      case "failed":
        return say(`${event.cell}: FAILED: ${event.reason}`)
      case "skipped":
        return say(
          `${event.cell}: skipped, ${event.because === undefined ? "the run is stopping" : `${event.because} failed`}`,
        )
      case "found":
        return say(`${event.cell}: found, as computed before`)
      case "cached":
      case "log":
        return
    }
  }
  return { emit }
}

/** Every event as one line of JSON, with its time. */
export const json = (write: (line: string) => void): Sink => ({
  emit: (event) => write(JSON.stringify({ time: new Date().toISOString(), ...event })),
})
