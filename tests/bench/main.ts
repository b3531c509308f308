/** `npm run bench [-- name …]`: every figure beside its bar and beside what the machine itself allows. */
import { readdirSync } from "node:fs"
import type { Row } from "./Row.ts"
import * as Table from "./Table.ts"

const names = readdirSync(new URL(".", import.meta.url))
  .filter((file) => /^[a-z].*\.ts$/.test(file) && file !== "main.ts")
  .map((file) => file.slice(0, -".ts".length))
  .toSorted()

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => !names.includes(name))
if (unknown.length > 0) console.log(`no benchmark ${unknown.join(", ")}; there are ${names.join(", ")}`)
else {
  Table.begin()
  for (const name of asked.length > 0 ? asked : names) {
    const { bench }: { bench: () => Promise<ReadonlyArray<Row>> } = await import(`./${name}.ts`)
    for (const row of await bench()) Table.print(row)
  }
}
