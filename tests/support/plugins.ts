/** Every plug-in there is, read off its folder as the product does: a new file is tested by being there. */
import { readdirSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = new URL("../../", import.meta.url)

export interface Plugin {
  readonly name: string
  readonly file: string
  readonly value: unknown
}

/** @param folder relative to the repository: `src/methods` */
export const paths = (folder: string, extension: string): ReadonlyArray<readonly [name: string, file: string]> =>
  readdirSync(new URL(`${folder}/`, root))
    .filter((file) => file.endsWith(extension) && /^[a-z]/.test(file))
    .toSorted()
    .map((file) => [file.slice(0, -extension.length), fileURLToPath(new URL(`${folder}/${file}`, root))])

/** The default exports of a folder's lower-case modules. */
export const modules = (folder: string): Promise<ReadonlyArray<Plugin>> =>
  Promise.all(
    paths(folder, ".ts").map(async ([name, file]) => ({ name, file, value: (await import(file)).default as unknown })),
  )

/** One line that says what it is: a sentence's worth, no full stop needed. */
export const isDescription = (u: unknown): boolean =>
  typeof u === "string" && u.length >= 10 && u.length <= 140 && !u.includes("\n")
