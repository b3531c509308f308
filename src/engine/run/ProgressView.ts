/**
 * A run on a terminal: a block of lines redrawn in place, one for each stage and one for each running cell, no wider
 * than the terminal and no higher. Failures stay above it.
 */
import { displayWidth, padEnd, padStart, printable } from "../table/DisplayWidth.ts"
import type { Event, Sink } from "./Progress.ts"
import * as ProgressState from "./ProgressState.ts"
import { duration, rate } from "./Quantities.ts"

/** What is asked of a terminal. */
export interface Terminal {
  readonly write: (text: string) => void
  readonly columns: () => number
  readonly rows: () => number
  readonly color: boolean
}

const ink = { dim: 2, red: 31, green: 32, cyan: 36 } as const

/** The text in as many columns as there are; what does not fit is shown to be missing. */
export const fit = (text: string, width: number): string => {
  if (displayWidth(text) <= width) return text
  let line = ""
  for (const character of text) {
    if (displayWidth(line + character) > width - 1) break
    line += character
  }
  return `${line}…`
}

const bar = (share: number, width: number) => {
  const full = Math.round(Math.min(1, Math.max(0, share)) * width)
  return "━".repeat(full) + "─".repeat(width - full)
}

const runningLine = (running: ProgressState.Running, now: number): string => {
  const { cell, progress, since } = running
  const perSecond = ProgressState.rateOf(running)
  const parts = [
    ...(progress === undefined ? [] : [`${Math.floor((100 * progress.done) / Math.max(1, progress.total))} %`]),
    ...(perSecond === undefined ? [] : [`${rate(perSecond)} ${progress!.unit}/s`]),
    duration((now - since) / 1000),
  ]
  return `  ${parts.join("  ")}  ${printable(cell)}`
}

const stageLine = (stage: ProgressState.Stage, name: number, digits: number): string => {
  const ready = stage.cached + stage.done
  const parts = [
    ...(stage.cached > 0 ? [`${stage.cached} cached`] : []),
    ...(stage.running > 0 ? [`${stage.running} running`] : []),
    ...(stage.failed > 0 ? [`${stage.failed} failed`] : []),
    ...(stage.skipped > 0 ? [`${stage.skipped} skipped`] : []),
  ]
  const counts = `${padStart(String(ready), digits)}/${padEnd(String(stage.cells), digits)}`
  return `${padEnd(printable(stage.stage), name)}  ${bar(ready / stage.cells, 12)}  ${counts}  ${parts.join(", ")}`.trimEnd()
}

/** The lines of the view, each no wider than `width`; at most `height` of them. */
export const render = (
  state: ProgressState.State,
  now: number,
  { color, height, width }: { readonly width: number; readonly height: number; readonly color: boolean },
): ReadonlyArray<string> => {
  const paint = (text: string, name: keyof typeof ink) => (color ? `\x1b[${ink[name]}m${text}\x1b[0m` : text)
  const stages = [...state.stages.values()]
  const cells = stages.reduce((sum, stage) => sum + stage.cells, 0)
  const ready = stages.reduce((sum, stage) => sum + stage.cached + stage.done, 0)
  const eta = ProgressState.eta(state, now)
  const head = `${printable(state.study)}: ${ready} of ${cells} cells${eta === undefined ? "" : `, about ${duration(eta)} left`}`

  const name = Math.min(24, Math.max(...stages.map(({ stage }) => displayWidth(stage)), 0))
  const digits = String(cells).length
  // Where there is no room for all, what is finished is left out first.
  const room = Math.max(1, height - 1 - state.running.size)
  const open = stages.filter(({ cached, cells, done }) => cached + done < cells)
  const shown = stages.length <= room ? stages : open.slice(0, room)
  const lines = [
    fit(head, width),
    ...shown.map((stage) => {
      const line = fit(stageLine(stage, name, digits), width)
      return stage.failed > 0
        ? paint(line, "red")
        : stage.cached + stage.done === stage.cells
          ? paint(line, "green")
          : line
    }),
    ...Array.from(state.running.values(), (running) => paint(fit(runningLine(running, now), width), "cyan")),
  ]
  return lines.slice(0, height)
}

const hideCursor = "\x1b[?25l"
const showCursor = "\x1b[?25h"
/** Milliseconds between two drawings. */
const frame = 100

export interface View extends Sink {
  /** Takes the view away and gives the cursor back. Can be called twice. */
  readonly close: () => void
}

export const open = (terminal: Terminal): View => {
  let state = ProgressState.initial
  let drawn = 0
  let isClosed = false

  const erase = () => (drawn === 0 ? "" : `\x1b[${drawn}A\x1b[J`)
  const draw = (above = "") => {
    const size = { width: Math.max(20, terminal.columns() - 1), height: Math.max(3, terminal.rows() - 1) }
    const lines = render(state, Date.now(), { ...size, color: terminal.color })
    const text = lines.map((line) => `${line}\n`).join("")
    terminal.write(`${erase()}${above}${text}`)
    drawn = lines.length
  }
  const close = () => {
    if (isClosed) return
    isClosed = true
    clearInterval(timer)
    process.removeListener("exit", close)
    terminal.write(`${erase()}${showCursor}`)
    drawn = 0
  }
  // However the process ends, the cursor is given back.
  process.once("exit", close)
  const timer = setInterval(() => {
    if (state.running.size > 0) draw()
  }, frame).unref()

  const emit = (event: Event) => {
    if (isClosed) return
    if (state.study === "") terminal.write(hideCursor)
    state = ProgressState.reduce(state, event, Date.now())
    if (event.event === "failed") draw(`${printable(event.cell)}: ${event.reason}\n`)
  }
  return { emit, close }
}
