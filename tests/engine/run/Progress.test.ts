import { assert, describe, it } from "@effect/vitest"
import { displayWidth } from "../../../src/engine/table/DisplayWidth.ts"
import type { Event } from "../../../src/engine/run/Progress.ts"
import * as ProgressLines from "../../../src/engine/run/ProgressLines.ts"
import * as ProgressState from "../../../src/engine/run/ProgressState.ts"
import * as ProgressView from "../../../src/engine/run/ProgressView.ts"

const planned: Event = {
  event: "planned",
  study: "toys",
  jobs: 2,
  stages: [
    { stage: "base", cells: 1, cached: 1 },
    { stage: "quant", cells: 4, cached: 1, expected: 10 },
    { stage: "score", cells: 8, cached: 0, expected: 5 },
  ],
}
const started = (cell: string, stage = "quant"): Event => ({ event: "started", cell, stage, expected: 10 })
const progress = (cell: string, done: number): Event => ({ event: "progress", cell, done, total: 100, unit: "tokens" })
const finished = (cell: string, seconds: number): Event => ({
  event: "finished",
  cell,
  stage: "quant",
  seconds,
  peakMemory: 0,
})
/** Events with the second at which they happen. */
const fold = (...events: ReadonlyArray<readonly [second: number, event: Event]>) =>
  events.reduce((state, [second, event]) => ProgressState.reduce(state, event, second * 1000), ProgressState.initial)

describe("ProgressState", () => {
  it("counts cells by stage", () => {
    const state = fold(
      [0, planned],
      [0, started("quant[a=1]")],
      [0, started("quant[a=2]")],
      [4, finished("quant[a=1]", 4)],
      [5, { event: "failed", cell: "quant[a=2]", stage: "quant", reason: "no" }],
      [5, { event: "skipped", cell: "score[a=2]", stage: "score", because: "quant[a=2]" }],
      [5, { event: "found", cell: "score[a=1]", stage: "score", seconds: 3 }],
    )
    assert.deepInclude(state.stages.get("quant"), { cached: 1, done: 1, failed: 1, running: 0, seconds: 4 })
    assert.deepInclude(state.stages.get("score"), { cached: 1, skipped: 1 })
    assert.strictEqual(state.running.size, 0)
  })

  it("takes the rate from the first report on", () => {
    const state = fold([0, planned], [0, started("q")], [2, progress("q", 10)], [4, progress("q", 30)])
    assert.strictEqual(ProgressState.rateOf(state.running.get("q")!), 10)
  })

  it("tells the time that is left from recorded costs, then from what this run took", () => {
    // 3 x 10 s of quant and 8 x 5 s of score on 2 jobs.
    assert.strictEqual(ProgressState.eta(fold([0, planned]), 0), 35)
    // 2 x 20 s, 8 x 5 s.
    assert.strictEqual(ProgressState.eta(fold([0, planned], [0, started("q")], [20, finished("q", 20)]), 20_000), 40)
    // One cell with 70 of 100 to go at 10 a second (7 s), 2 x 10 s, 8 x 5 s.
    const running = fold([0, planned], [0, started("q")], [2, progress("q", 10)], [4, progress("q", 30)])
    assert.strictEqual(ProgressState.eta(running, 4000), 33.5)
  })

  it("does not guess where nothing is known", () => {
    const unknown = { ...planned, stages: [{ stage: "new", cells: 2, cached: 0 }] } as Event
    assert.isUndefined(ProgressState.eta(fold([0, unknown]), 0))
  })
})

describe("ProgressView", () => {
  const state = fold(
    [0, planned],
    [0, started("quant[weights=w4-g64, activations=a8-token, kv=kv4-token-head]")],
    [2, progress("quant[weights=w4-g64, activations=a8-token, kv=kv4-token-head]", 10)],
    [4, progress("quant[weights=w4-g64, activations=a8-token, kv=kv4-token-head]", 30)],
  )
  it("shows stages, running cells with their rates, and the time that is left", () => {
    const lines = ProgressView.render(state, 4000, { width: 100, height: 20, color: false })
    assert.deepStrictEqual(lines, [
      "toys: 2 of 13 cells, about 34 s left",
      "base   ━━━━━━━━━━━━   1/1   1 cached",
      "quant  ━━━─────────   1/4   1 cached, 1 running",
      "score  ────────────   0/8",
      "  30 %  10 tokens/s  4.0 s  quant[weights=w4-g64, activations=a8-token, kv=kv4-token-head]",
    ])
  })
  it("is never wider or higher than the terminal", () => {
    for (const width of [20, 33, 80])
      for (const height of [3, 4, 24]) {
        const lines = ProgressView.render(state, 4000, { width, height, color: false })
        assert.isAtMost(lines.length, height)
        for (const line of lines) assert.isAtMost(displayWidth(line), width)
      }
  })
  it("redraws in place, leaves failures above, and gives the cursor back once", () => {
    let written = ""
    const terminal = {
      write: (text: string) => void (written += text),
      columns: () => 60,
      rows: () => 20,
      color: false,
    }
    const view = ProgressView.open(terminal)
    view.emit(planned)
    assert.include(written, "\x1b[?25l")
    view.emit(started("q"))
    view.emit({ event: "failed", cell: "q", stage: "quant", reason: "no" })
    view.emit({ event: "failed", cell: "r", stage: "quant", reason: "nor this" })
    assert.include(written, "q: no\n")
    assert.include(written, "\x1b[4A\x1b[Jr: nor this\n")
    view.close()
    view.close()
    assert.isTrue(written.endsWith("\x1b[4A\x1b[J\x1b[?25h"))
    assert.strictEqual(written.split("\x1b[?25h").length, 2)
  })
})

const tell = (make: typeof ProgressLines.lines, ...events: ReadonlyArray<Event>) => {
  const lines: Array<string> = []
  const sink = make((line) => void lines.push(line))
  for (const event of events) sink.emit(event)
  return lines
}

describe("ProgressLines", () => {
  it("one sentence an event; progress now and then, cached cells as a number", () => {
    const cached: Event = { event: "cached", cell: "base", stage: "base", seconds: 1 }
    const lines = tell(
      ProgressLines.lines,
      planned,
      cached,
      started("q"),
      progress("q", 1),
      progress("q", 2),
      finished("q", 3),
    )
    assert.deepStrictEqual(
      lines.map((line) => line.slice(10)),
      [
        "base: 1 cell, all cached",
        "quant: 4 cells, 1 cached",
        "score: 8 cells, 0 cached",
        "q: started, about 10 s",
        "q: done in 3.0 s",
      ],
    )
  })
  it("every event as JSON", () => {
    const [line] = tell(ProgressLines.json, started("q"))
    assert.deepInclude(JSON.parse(line!), { event: "started", cell: "q", stage: "quant", expected: 10 })
  })
})
