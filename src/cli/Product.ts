/** Where the product's own folders are, and where its cache is unless told otherwise. */
import { readFileSync } from "node:fs"
import { homedir } from "node:os"
import { join, resolve, sep } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))
const environment = (name: string) => process.env[name] || undefined

/** Bundled studies and `schema.json`. */
export const pipelines = join(root, "pipelines")
/** The stages a study may use. `ASSAY_STAGES` names another folder, for stages of one's own. */
export const stages = resolve(environment("ASSAY_STAGES") ?? join(root, "stages"))
/** A folder of plug-ins: `src/methods`. */
export const plugins = (name: string) => join(root, "src", name)

/** A checkout keeps its cache beside itself; an installed package must not write into its own folder. */
const home = root.includes(`${sep}node_modules${sep}`)
  ? join(environment("XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "assay")
  : join(root, "cache")
export const cache = (flag: string | undefined): string => resolve(flag ?? environment("ASSAY_CACHE") ?? home)

export const version = (): string => JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version
