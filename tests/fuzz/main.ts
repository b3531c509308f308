/**
 * `npm run fuzz [-- --cases n | --seed n]`: damaged files of every format, through the functions that read them. Each case
 * must load or be refused with a sentence that names the file, within 2 s of processor time and 128 MiB beside the size of
 * its files. Ends with 1 and the seeds of offenders if there are any.
 */
import { parseArgs } from "node:util"
import { formats } from "./Formats.ts"
import { MOST_MEMORY, MOST_SECONDS, type Verdict } from "./Judge.ts"
import { run } from "./Runner.ts"

const { values } = parseArgs({
  options: {
    cases: { type: "string", default: "10000" },
    from: { type: "string", default: "0" },
    seed: { type: "string" },
  },
})
const [first, count] =
  values.seed === undefined ? [Number(values.from), Number(values.cases)] : [Number(values.seed), 1]
const seeds = Array.from({ length: count }, (_, i) => first + i)

const report = ({ format, message, offence, outcome, seconds, seed }: Verdict) =>
  console.log(
    `seed ${seed} (${format}): ${outcome} in ${seconds.toFixed(2)} s; ${offence ?? "allowed"}\n  ${message.slice(0, 500)}`,
  )
const verdicts = await run(seeds, 2, (verdict) => {
  if (verdict.offence !== undefined || values.seed !== undefined) report(verdict)
})

const columns = ["format", "cases", "loaded", "refused", "offences", "slowest", "most memory"]
const line = (cells: ReadonlyArray<string | number>) =>
  cells.map((cell, i) => (i === 0 ? String(cell).padEnd(22) : String(cell).padStart(11))).join("  ")
const row = (name: string, own: ReadonlyArray<Verdict>) => {
  const many = (outcome: Verdict["outcome"]) => own.filter((verdict) => verdict.outcome === outcome).length
  const most = (of: (verdict: Verdict) => number) => own.reduce((largest, verdict) => Math.max(largest, of(verdict)), 0)
  return line([
    name,
    own.length,
    many("loaded"),
    many("refused"),
    own.filter(({ offence }) => offence !== undefined).length,
    `${most(({ seconds }) => seconds).toFixed(2)} s`,
    `${(most(({ memory }) => memory) / 2 ** 20).toFixed(0)} MiB`,
  ])
}
console.log(`\n${line(columns)}`)
for (const { name } of formats) {
  const own = verdicts.filter(({ format }) => format === name)
  if (own.length > 0) console.log(row(name, own))
}
console.log(row("all", verdicts))
console.log(`\nallowed: ${MOST_SECONDS} s of processor time, the size of the files and ${MOST_MEMORY >> 20} MiB`)

const offenders = verdicts.filter(({ offence }) => offence !== undefined).map(({ seed }) => seed)
if (offenders.length > 0) {
  console.log(`offenders: ${offenders.toSorted((a, b) => a - b).join(", ")}`)
  process.exitCode = 1
}
