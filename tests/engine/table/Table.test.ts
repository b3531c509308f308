import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { compare, type Measured } from "../../../src/engine/table/Comparison.ts"
import { displayWidth, foldLabel } from "../../../src/engine/table/DisplayWidth.ts"
import { pivot, type Row, Table, toCsv, toJson, type Value } from "../../../src/engine/table/Table.ts"
import { toMarkdown, toText } from "../../../src/engine/table/TableText.ts"

const escapes = /\x1b\[\d+m/g // oxlint-disable-line no-control-regex
const lines = (text: string) => text.split("\n")

/** Two dishes under four heats: one measure where higher is better, with chance, and one where lower is. */
const base: { readonly [dish: string]: Measured } = {
  soup: { value: 0.75, stderr: 0.01, better: "higher", chance: 0.5 },
  stew: { value: 12.5, stderr: 0.05, better: "lower" },
}
const row = (heat: string, dish: string, value: number, rest: Partial<Row> = {}): Row => {
  const measured = { ...base[dish]!, value, ...rest }
  return {
    cell: `taste[${heat}, ${dish}]`,
    coordinates: { heat, dish },
    labels: { dish, measure: dish === "soup" ? "liked" : "seconds" },
    attributes: { watts: heat === "off" ? 0 : 1250 },
    n: 100,
    ...(measured as Measured & { readonly chance?: number; readonly stderr?: number; readonly interval?: never }),
    ...compare(measured, base[dish]!),
    isBaseline: heat === "off",
    shown: true,
    ...rest,
  }
}
const table: Value = {
  title: "What heat does to a dish",
  axes: ["heat", "dish"],
  rows: [
    row("off", "soup", 0.75),
    row("off", "stew", 12.5),
    row("low", "soup", 0.751),
    row("low", "stew", 13.2),
    row("mid", "soup", 0.73),
    row("mid", "stew", 9.75),
    row("high", "soup", 0.5),
    row("high", "stew", 1250),
  ],
  layout: {
    rows: ["heat"],
    columns: ["dish", "measure"],
    facts: ["watts"],
    headings: { seconds: "s" },
    show: ["retention"],
  },
}
const many: Value = {
  ...table,
  rows: Array.from({ length: 9 }, (_, i) => i).flatMap((i) =>
    table.rows
      .filter((row) => row.labels["dish"] === "soup")
      .map((row): Row =>
        Object.assign({}, row, { labels: { dish: `dish-number_${i}`, measure: "liked_by_everyone" } }),
      ),
  ),
}

const significantAt = (value: number, rest: Partial<Measured>) =>
  compare({ value, better: "higher", ...rest }, { value: 10, better: "higher", stderr: 3 }).significant

describe("compare", () => {
  it("counts what is kept above chance", () => {
    assert.strictEqual(compare({ ...base["soup"]!, value: 0.625 }, base["soup"]!).retention, 0.5)
    assert.strictEqual(compare({ ...base["soup"]!, value: 0.5 }, base["soup"]!).retention, 0)
    assert.strictEqual(compare({ ...base["soup"]!, value: 0.25 }, base["soup"]!).retention, -1)
    assert.strictEqual(compare({ value: 0.5, better: "higher" }, { value: 2, better: "higher" }).retention, 0.25)
  })
  it("divides the other way round where lower is better", () => {
    assert.strictEqual(compare({ ...base["stew"]!, value: 50 }, base["stew"]!).retention, 0.25)
    assert.strictEqual(compare({ ...base["stew"]!, value: 10 }, base["stew"]!).retention, 1.25)
  })
  it("has no retention where the ratio says nothing", () => {
    for (const [better, value, baseline] of [
      ["neither", 1, 2],
      ["lower", 0, 2],
      ["lower", 1, 0],
      ["higher", 0.4, 0],
    ] as const)
      assert.notProperty(compare({ value, better }, { value: baseline, better }), "retention")
    assert.notProperty(
      compare({ value: 0.4, better: "higher", chance: 0.5 }, { value: 0.51, stderr: 0.01, better: "higher" }),
      "retention",
      "a baseline within its noise of chance",
    )
  })
  const paired = (own: ReadonlyArray<number>, baseline: ReadonlyArray<number>) =>
    compare({ value: 1, better: "higher" }, { value: 0, better: "higher" }, { own, baseline }).significant
  it("of right and wrong answers is significant by those that changed", () => {
    const split = (gained: number, lost: number) =>
      paired(
        [...Array(gained).fill(1), ...Array(lost).fill(0), ...Array(30).fill(1)],
        [...Array(gained).fill(0), ...Array(lost).fill(1), ...Array(30).fill(1)],
      )
    // Twice the chance of so few heads among as many throws: 0.031 and 0.062; 0.039 and 0.065; 0.044 and 0.057.
    assert.deepStrictEqual([split(6, 0), split(0, 6), split(5, 0), split(0, 5)], [true, true, false, false])
    assert.deepStrictEqual([split(10, 2), split(2, 10), split(9, 2)], [true, true, false])
    assert.deepStrictEqual([split(40, 60), split(60, 40)], [false, false])
    assert.deepStrictEqual([split(39, 61), split(0, 0)], [true, false])
    assert.isTrue(split(0, 3000))
  })
  it("of other numbers is significant beyond two standard errors of the differences", () => {
    const spread = Array.from({ length: 50 }, (_, i) => 1000 * (i % 7))
    const moved = (by: (i: number) => number) =>
      paired(
        spread.map((x, i) => x + by(i)),
        spread,
      )
    assert.isTrue(moved(() => 0.01))
    assert.isTrue(moved((i) => 0.3 + (i % 2)))
    assert.isFalse(moved((i) => (i % 2) - 0.5))
    assert.isFalse(moved((i) => (i % 2) - 0.4))
    assert.isFalse(moved(() => 0))
  })
  it("of few items is not taken for more than it is", () => {
    assert.deepStrictEqual([paired([9], [1]), paired([9, 9], [1, 1.1]), paired([1, 1], [0, 0])], [false, false, false])
    // Student's t of three differences is 4.5 at this level, of thirty 2.1.
    assert.deepStrictEqual([paired([2, 3, 4], [0, 0, 0]), paired([4, 5, 6], [0, 0, 0])], [true, true])
    assert.isFalse(paired([1, 2.5, 4], [0, 0, 0]))
  })
  it("is significant beyond two combined standard errors, known from either the error or the interval", () => {
    assert.strictEqual(significantAt(19.9, { stderr: 4 }), false)
    assert.strictEqual(significantAt(20.1, { stderr: 4 }), true)
    assert.strictEqual(significantAt(-0.1, { stderr: 4 }), true)
    assert.strictEqual(significantAt(19.9, { interval: [0, 4 * 2 * 1.96] }), false)
    assert.strictEqual(significantAt(20.1, { interval: [0, 4 * 2 * 1.96] }), true)
    assert.isUndefined(significantAt(99, {}))
    assert.strictEqual(significantAt(10, { stderr: 4 }), false)
  })
})

describe("pivot", () => {
  it("keeps the order of first appearance and leaves holes", () => {
    const grid = pivot({ ...table, rows: table.rows.filter((row) => row.cell !== "taste[mid, stew]").toReversed() })
    assert.deepStrictEqual(
      grid.lines.map((line) => line.names),
      [["high"], ["mid"], ["low"], ["off"]],
    )
    assert.deepStrictEqual(
      grid.columns.map((column) => column.names),
      [
        ["stew", "seconds"],
        ["soup", "liked"],
      ],
    )
    assert.isUndefined(grid.lines[1]!.cells[0])
    assert.strictEqual(grid.lines[1]!.cells[1]!.cell, "taste[mid, soup]")
    assert.deepStrictEqual(
      grid.lines.map((line) => line.isBaseline),
      [false, false, false, true],
    )
  })
  it("leaves out rows that are not shown, and facts that differ within a line", () => {
    const rows = table.rows.map((row, i) => ({ ...row, shown: i !== 0, attributes: { watts: i } }))
    const grid = pivot({ ...table, rows })
    assert.isUndefined(grid.lines[0]!.cells[1])
    assert.deepStrictEqual(grid.facts, [])
  })
  it("does not choose between two rows of one place", () => {
    assert.throws(
      () => pivot({ ...table, layout: { ...table.layout, rows: [] } }),
      /taste\[off, soup\] and taste\[low, soup\]/,
    )
  })
})

describe("toText", () => {
  it("shows what each line keeps of its baseline", () => {
    assert.deepStrictEqual(lines(toText(table, { width: 80, color: false })), [
      "What heat does to a dish",
      "Share of the baseline kept: 100% is no loss, 0% is guessing (lower-is-better",
      "metrics: baseline / value).",
      "",
      "                soup     stew",
      "  heat  watts  liked        s",
      "-------------------------------",
      "* off       0  0.750   12.500",
      "  low    1250   100%      95%!",
      "  mid    1250    92%?    128%+",
      "  high   1250     0%!!     1%!!",
      "",
      "* baseline, in its own units   + keeps over 102%   ! keeps 90-97%",
      "!! keeps less than 90%   ? beyond 98-102%, but within the noise (95 %)",
      "",
    ])
  })
  it("shows differences and values, one table each, with the same marks", () => {
    const text = toText(
      { ...table, layout: { ...table.layout, show: ["delta", "values"] } },
      { width: 80, color: false },
    )
    assert.deepStrictEqual(lines(text).slice(1, 20), [
      "Difference from the baseline.",
      "",
      "                 soup      stew",
      "  heat  watts   liked         s",
      "---------------------------------",
      "* off       0   0.750    12.500",
      "  low    1250  +0.001    +0.700!",
      "  mid    1250  -0.020?   -2.750+",
      "  high   1250  -0.250!! +1.24e3!!",
      "",
      "Values.",
      "",
      "                soup     stew",
      "  heat  watts  liked        s",
      "-------------------------------",
      "* off       0  0.750   12.500",
      "  low    1250  0.751   13.200!",
      "  mid    1250  0.730?   9.750+",
      "  high   1250  0.500!! 1.25e3!!",
    ])
  })
  it("paints by severity, and the escapes change nothing else", () => {
    const text = toText(table, { width: 80, color: true })
    assert.strictEqual(text.replace(escapes, ""), toText(table, { width: 80, color: false }))
    const painted = lines(text).slice(7, 11)
    assert.include(painted[0], "\x1b[1m* off")
    assert.include(painted[1], "\x1b[32m 100%")
    assert.include(painted[1], "\x1b[33m   95%!")
    assert.include(painted[2], "   92%?  ")
    assert.include(painted[2], "\x1b[32m  128%+")
    assert.include(painted[3], "\x1b[31m   0%!!\x1b[0m")
    assert.notInclude(toText(table, { width: 80, color: false }), "\x1b")
  })
  it("is never wider than asked for, and loses nothing to the fold", () => {
    const wide: Value = {
      ...many,
      title: "量子化 ".repeat(30),
      axes: ["heat", "place", "dish"],
      rows: many.rows.map((row) => ({
        ...row,
        coordinates: { ...row.coordinates, place: "台所のとても広いところ/very-long_place-name" },
      })),
      layout: { ...many.layout, rows: ["heat", "place"], show: ["values", "delta", "retention"] },
    }
    for (const value of [table, many, wide])
      for (let width = 40; width <= 130; width++) {
        const text = toText(value, { width, color: false })
        for (const line of lines(text)) assert.isAtMost(displayWidth(line), width, line)
        assert.strictEqual(text.split("0.750").length - 1, value.layout.show.length * (value === table ? 1 : 9))
      }
  })
  it("folds headings only where they do not all fit on one line", () => {
    const two = { ...many, rows: many.rows.filter((row) => /[01]/.test(row.labels["dish"]!)) }
    const heading = (width: number) =>
      lines(toText(two, { width, color: false }))
        .slice(4, 9)
        .join("|")
    assert.include(heading(80), "dish-number_0     dish-number_1")
    assert.include(heading(48), "|                dish-    dish-|")
    assert.strictEqual(toText(two, { width: 40, color: false }).match(/^\* off/gm)!.length, 1)
  })
  it("writes what would vanish or overflow with an exponent", () => {
    const tiny = [0.00012, 3, 0, -0.0004, 123456.7].map((value, i) =>
      row("off", "stew", value, { coordinates: { heat: `${i}` } }),
    )
    const text = toText({ ...table, rows: tiny, layout: { ...table.layout, facts: [] } }, { width: 80, color: false })
    const shown = lines(text).filter((line) => /^\* \d/.test(line))
    assert.deepStrictEqual(shown, [
      "* 0      1.20e-4",
      "* 1        3.000",
      "* 2        0.000",
      "* 3     -4.00e-4",
      "* 4       1.23e5",
    ])
  })
  it("puts what does not fit into further blocks of about the same width, each with its line names", () => {
    const text = toText(many, { width: 80, color: false })
    const heads = lines(text).filter((line) => line.startsWith("  heat"))
    assert.strictEqual(heads.length, 2)
    assert.strictEqual(text.match(/^\* off/gm)!.length, 2)
    assert.strictEqual(text.match(/^ {2}high/gm)!.length, 2)
    const rules = lines(text).filter((line) => line.startsWith("---"))
    assert.isAtMost(Math.abs(rules[0]!.length - rules[1]!.length), 12)
  })
  it("marks a baseline that is a column", () => {
    const text = toText(
      { ...table, layout: { ...table.layout, rows: ["dish", "measure"], columns: ["heat"] } },
      { width: 80, color: false },
    )
    assert.deepStrictEqual(lines(text).slice(4, 8), [
      "  dish  measure   * off   low   mid  high",
      "-----------------------------------------",
      "  soup  liked     0.750  100%   92%? 0%!!",
      "  stew  seconds  12.500   95%! 128%+ 1%!!",
    ])
  })
  it("neither breaks lines nor passes escapes on for a hostile label", () => {
    const rows = table.rows.map((row) => ({
      ...row,
      coordinates: { ...row.coordinates, heat: `${row.coordinates["heat"]}\n\x1b[2J` },
    }))
    const text = toText({ ...table, rows }, { width: 80, color: false })
    assert.notInclude(text, "\x1b")
    assert.strictEqual(lines(text).length, lines(toText(table, { width: 80, color: false })).length)
  })
  it("is a heading alone where nothing is shown", () => {
    assert.include(toText({ ...table, rows: [] }, { width: 80, color: false }), "heat")
  })
})

describe("displayWidth", () => {
  it("counts terminal columns", () => {
    const widths = { abc: 3, 量子: 4, "e\u0301": 1, "👍🏽": 2, "👩‍👩‍👧": 2, ｆｕｌｌ: 8, "Größe±": 6, 한글: 4, "\u200b": 0 }
    for (const [text, width] of Object.entries(widths)) assert.strictEqual(displayWidth(text), width, text)
  })
  it("folds labels where they may be folded, and cuts between characters", () => {
    assert.deepStrictEqual(foldLabel("w4-g64-rtn", 7), ["w4-g64-", "rtn"])
    assert.deepStrictEqual(foldLabel("exact_match", 6), ["exact_", "match"])
    assert.deepStrictEqual(foldLabel("perplexity", 4), ["perp", "lexi", "ty"])
    assert.deepStrictEqual(foldLabel("量子化", 5), ["量子", "化"])
    assert.deepStrictEqual(foldLabel("cafe\u0301", 3), ["caf", "e\u0301"])
  })
})

describe("toCsv", () => {
  it("quotes as RFC 4180 says, at full precision", () => {
    const odd = row("low", "soup", 0.1 + 0.2, { cell: 'a "b", c', interval: [0.25, 0.35] })
    const rows = [odd, row("x\ny", "stew", 1e-7, { labels: { dish: "stew", measure: "s", extra: " é" } })]
    assert.strictEqual(
      toCsv({ ...table, rows: [...rows] }),
      [
        "cell,heat,dish,measure,extra,watts,value,n,stderr,low,high,better,chance,baseline,delta,retention,significant",
        `"a ""b"", c",low,soup,liked,,1250,0.30000000000000004,100,0.01,0.25,0.35,higher,0.5,0.75,-0.44999999999999996,-0.7999999999999998,true`,
        `"taste[x\ny, stew]","x\ny",stew,s, é,1250,1e-7,100,0.05,,,lower,,12.5,-12.4999999,125000000,true`,
        "",
      ].join("\r\n"),
    )
  })
  it("holds rows that the pivot does not show", () => {
    const rows = table.rows.map((row) => ({ ...row, shown: false }))
    assert.strictEqual(toCsv({ ...table, rows }), toCsv(table))
  })
})

describe("toJson", () => {
  it.effect("is what the schema reads back", () =>
    Effect.gen(function* () {
      const read = yield* Schema.decodeUnknownEffect(Table.schema)(JSON.parse(toJson(table)))
      assert.deepStrictEqual(read, table)
    }),
  )
})

describe("toMarkdown", () => {
  it("is one pipe table per view, with marks and a legend", () => {
    const rows = table.rows.map((row) => ({
      ...row,
      coordinates: { ...row.coordinates, heat: row.coordinates["heat"]!.replace("mid", "a|b") },
    }))
    assert.deepStrictEqual(lines(toMarkdown({ ...table, rows })), [
      "### What heat does to a dish",
      "",
      "Share of the baseline kept: 100% is no loss, 0% is guessing (lower-is-better metrics: baseline / value).",
      "",
      "| heat | watts | soup liked | stew s |",
      "| --- | ---: | ---: | ---: |",
      "| \\* off | 0 | 0.750 | 12.500 |",
      "| low | 1250 | 100% | 95% ! |",
      "| a\\|b | 1250 | 92% ? | 128% + |",
      "| high | 1250 | 0% !! | 1% !! |",
      "",
      "- \\* baseline, in its own units",
      "- + keeps over 102%",
      "- ! keeps 90-97%",
      "- !! keeps less than 90%",
      "- ? beyond 98-102%, but within the noise (95 %)",
      "",
    ])
  })
})
