/**
 * A table for people: as terminal text that never exceeds its width, and as Markdown. Columns that do not fit go into a
 * further block under the same line names; nothing is cut off.
 */
import { displayWidth, foldLabel, foldWords, padEnd, padStart, pieces, printable } from "./DisplayWidth.ts"
import type { Value } from "./Table.ts"
import { caption, grid, type Grid, legend, type Verdict } from "./TableCells.ts"

export interface TextOptions {
  /** Columns of the terminal: 80 unless the caller knows better. From about 40 up, no line is ever longer. */
  readonly width: number
  /** Whether to write escape sequences: the caller knows of terminals and NO_COLOR. */
  readonly color: boolean
}

const colors: { readonly [V in Verdict]: string } = {
  baseline: "1",
  uncompared: "",
  same: "32",
  better: "32",
  worse: "33",
  severe: "31",
  unclear: "",
}
/** Trailing blanks stay unpainted, so that they can be trimmed off a line. */
const paint = (text: string, verdict: Verdict, color: boolean) => {
  const ink = text.trimEnd()
  return color && colors[verdict] !== "" ? `\x1b[${colors[verdict]}m${ink}\x1b[0m${text.slice(ink.length)}` : text
}

const gap = "  "
/** A heading is folded rather than make its column wider than this. */
const headingWidth = 12
const widest = (texts: ReadonlyArray<string>) => Math.max(0, ...texts.map(displayWidth))
const headingWidthOf = (label: string) => Math.min(headingWidth, widest(pieces(label).map((piece) => piece.trimEnd())))

const columnWidth = (heading: string, texts: ReadonlyArray<string>) => Math.max(headingWidthOf(heading), widest(texts))

/** The left side, repeated in every block: a place for the baseline's mark, names (folded), facts (right-aligned). */
interface Side {
  readonly widths: ReadonlyArray<number>
  readonly width: number
  readonly text: (mark: string, texts: ReadonlyArray<string>) => string
}
const sideOf = (grid: Grid, available: number): Side => {
  const names = grid.names.map((name, i) =>
    columnWidth(
      name,
      grid.lines.map((line) => line.names[i]!),
    ),
  )
  const facts = grid.facts.map((fact, i) =>
    columnWidth(
      fact,
      grid.lines.map((line) => line.facts[i]!),
    ),
  )
  const total = () => [...names, ...facts].reduce((sum, width) => sum + gap.length + width, 0)
  // The widest names give way, a column at a time, until the widest value fits beside them.
  while (total() > available && Math.max(...names) > 1) names[names.indexOf(Math.max(...names))]! -= 1
  const widths = [...names, ...facts]
  const pad = (text: string, i: number) => (i < names.length ? padEnd : padStart)(text, widths[i]!)
  return {
    widths,
    width: total() + 1,
    text: (mark, texts) => `${padEnd(mark, gap.length)}${texts.map(pad).join(gap)} `,
  }
}

/** Numbers are right-aligned; their marks hang to the right of them, and long headings may reach over the marks. */
interface Column {
  readonly heading: ReadonlyArray<ReadonlyArray<string>>
  readonly mark: number
  readonly width: number
}
const columnOf = (grid: Grid, index: number, headed: (heading: string) => number): Column => {
  const cells = grid.lines.map((line) => line.cells[index]!)
  const mark = Math.max(1, widest(cells.map((cell) => cell.mark)))
  const labels = grid.columns[index]!
  const width = Math.max(widest(cells.map((cell) => cell.number)) + mark, ...labels.map(headed))
  return { heading: labels.map((label) => foldLabel(label, width)), mark, width }
}
const place = (text: string, { mark, width }: Column) => padEnd(padStart(text, width - mark), width)

const widthOf = (columns: ReadonlyArray<Column>) => columns.reduce((sum, column) => sum + 1 + column.width, 0)

/** Columns into blocks: as many as fit, then the next block. */
const pack = (columns: ReadonlyArray<Column>, available: number): ReadonlyArray<ReadonlyArray<number>> => {
  const blocks: Array<Array<number>> = [[]]
  let used = 0
  for (const [index, { width }] of columns.entries()) {
    if (used + 1 + width > available && used > 0) {
      blocks.push([])
      used = 0
    }
    used += 1 + width
    blocks.at(-1)!.push(index)
  }
  return blocks
}
/** The fewest blocks, of about the same width. */
const balance = (columns: ReadonlyArray<Column>, available: number): ReadonlyArray<ReadonlyArray<number>> => {
  let best = pack(columns, available)
  for (let limit = available - 1; limit > 0; limit--) {
    const next = pack(columns, limit)
    if (next.length > best.length) break
    best = next
  }
  return best
}

/** Cells of several lines each, side by side; shorter ones end early. */
const stack = (cells: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<ReadonlyArray<string>> =>
  Array.from({ length: Math.max(1, ...cells.map((cell) => cell.length)) }, (_, y) => cells.map((cell) => cell[y] ?? ""))
/** The same with shorter ones at the foot, as headings stand. */
const sink = (cells: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<ReadonlyArray<string>> => {
  const height = Math.max(1, ...cells.map((cell) => cell.length))
  return stack(cells.map((cell) => [...Array.from({ length: height - cell.length }, () => ""), ...cell]))
}

const headText = (grid: Grid, side: Side, columns: ReadonlyArray<Column>): ReadonlyArray<string> => {
  const names = [...grid.names, ...grid.facts].map((name, i) => foldLabel(name, side.widths[i]!))
  const levels = columns[0]?.heading.length ?? 0
  // Each level (what is measured, then in what) starts on the same line in every column.
  const headings = Array.from({ length: levels }, (_, level) =>
    sink(columns.map(({ heading }) => heading[level]!)),
  ).flat()
  const cells = columns.map((column, i) => headings.map((heading) => place(heading[i]!, column)))
  return sink([...names, ...cells]).map((texts) =>
    [side.text("", texts.slice(0, names.length)), ...texts.slice(names.length)].join(" "),
  )
}

const bodyText = (
  grid: Grid,
  side: Side,
  columns: ReadonlyArray<Column>,
  block: ReadonlyArray<number>,
  color: boolean,
) =>
  grid.lines.flatMap((line) => {
    const cells = block.map((i, nth) => {
      const cell = line.cells[i]!
      const { mark, width } = columns[nth]!
      return paint(padStart(cell.number, width - mark) + padEnd(cell.mark, mark), cell.verdict, color)
    })
    const names = line.names.map((name, i) => foldLabel(name, side.widths[i]!))
    return stack([...names, ...line.facts.map((fact) => [fact])]).map((texts, y) => {
      const left = side.text(line.isBaseline && y === 0 ? "*" : "", texts)
      return [paint(left, line.isBaseline ? "baseline" : "uncompared", color), ...(y === 0 ? cells : [])].join(" ")
    })
  })

const gridText = (grid: Grid, { color, width }: TextOptions): ReadonlyArray<string> => {
  const folded = grid.columns.map((_, index) => columnOf(grid, index, headingWidthOf))
  const side = sideOf(grid, width - 3 - Math.max(0, ...folded.map((column) => column.width)))
  const available = width - side.width
  // Headings are folded only where they do not all fit.
  const open = grid.columns.map((_, index) => columnOf(grid, index, displayWidth))
  const all = widthOf(open) <= available ? open : folded
  return balance(all, available).flatMap((block, nth) => {
    const columns = block.map((i) => all[i]!)
    const rule = "-".repeat(side.width + widthOf(columns))
    const lines = [...headText(grid, side, columns), rule, ...bodyText(grid, side, columns, block, color)]
    return (nth === 0 ? [] : [""]).concat(lines.map((line) => line.trimEnd()))
  })
}

/** As many notes on a line as fit. */
const notesText = (notes: ReadonlyArray<string>, width: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  for (const note of notes) {
    const line = lines.at(-1)
    if (line !== undefined && displayWidth(`${line}   ${note}`) <= width) lines[lines.length - 1] = `${line}   ${note}`
    else lines.push(...foldWords(note, width))
  }
  return lines
}

/**
 * The table for a terminal. What a setting costs is marked beside each number (`!`, `!!`) and, if wanted, by colour:
 * green for no loss, yellow and red for what is lost beyond the noise.
 */
export const toText = (table: Value, options: TextOptions): string => {
  const grids = table.layout.show.map((show) => grid(table, show))
  const tables = grids.map((grid, i) => [
    foldWords(caption(table.layout.show[i]!), options.width),
    [""],
    gridText(grid, options),
    [""],
  ])
  const title = foldWords(printable(table.title), options.width)
  return `${[title, ...tables.flat(), notesText(legend(grids), options.width)].flat().join("\n").trimEnd()}\n`
}

const escape = (text: string) => text.replace(/[\\|*_`<>[\]]/g, "\\$&")

const pipes = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`

/** The table as Markdown with pipe tables, marks included. */
export const toMarkdown = (table: Value): string => {
  const grids = table.layout.show.map((show) => grid(table, show))
  const tables = grids.map((grid, i) =>
    [
      caption(table.layout.show[i]!),
      "",
      pipes([...grid.names, ...grid.facts, ...grid.columns.map((labels) => labels.join(" "))].map(escape)),
      pipes([...grid.names.map(() => "---"), ...[...grid.facts, ...grid.columns].map(() => "---:")]),
      ...grid.lines.map((line) =>
        pipes([
          ...line.names.map((name, i) => escape(line.isBaseline && i === 0 ? `* ${name}` : name)),
          ...line.facts,
          ...line.cells.map(({ mark, number }) => `${number} ${mark}`.trimEnd()),
        ]),
      ),
      "",
    ].join("\n"),
  )
  const notes = legend(grids)
    .map((note) => `- ${escape(note)}\n`)
    .join("")
  return [`### ${escape(printable(table.title))}`, "", ...tables, notes].join("\n").trimEnd() + "\n"
}
