/**
 * Which files of a data set's repository hold a split of a config. Its README.md says so (`configs` in the block of YAML
 * at its head); where it does not, the names do, by the hub's conventions:
 *
 *     [data/][config/]split.ext
 *     [data/][config/]split-00000-of-00002.ext      also with a digest after it; all parts must be there
 *     [data/][config/]split/0000.parquet            as the hub's own copies at @refs/convert/parquet, from 0 on
 *
 * Of a large split the hub's copy is called `partial-split`, and holds its beginning alone. As the `datasets` library does,
 * names that begin with `.`, folders that begin with `__` and files about the data set are passed over unless they are
 * written out.
 *
 * Files are Parquet, JSON Lines, JSON or CSV; those of one split are of one kind. Loading scripts are never run.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { parseDocument } from "yaml"
import * as Json from "../data/Json.ts"
import type { RepoFile } from "./Digest.ts"

/** A split that cannot be found, or that is not whole. */
export class NoSplit extends Schema.TaggedError<NoSplit>()("NoSplit", {
  source: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.source} ${this.reason}`
  }
}

/** What to read; a config may be left out where the data set has a default one or only one. */
export interface Split {
  readonly config: string | undefined
  readonly split: string
}

interface Config {
  readonly name: string
  readonly isDefault: boolean
  /** Globs, or the paths themselves. */
  readonly splits: ReadonlyMap<string, ReadonlyArray<string>>
  /** Whether names alone tell what belongs to a split. */
  readonly guessed: boolean
}

const KINDS = [".parquet", ".jsonl", ".json", ".csv"]
const kindOf = (path: string) => KINDS.find((kind) => path.endsWith(kind))
const DEFAULT = "default"
/** What the hub's converter puts before a split's name when it kept only its beginning. */
const PARTIAL = "partial-"
const ABOUT = new Set([
  "README.md",
  "config.json",
  "dataset_info.json",
  "dataset_infos.json",
  "dataset_dict.json",
  "dummy_data.zip",
])

/**
 * The files of a split, in the order of the patterns that name them, and of their names within one. `readme` is the text
 * of README.md, where there is one.
 */
export const choose = (
  source: string,
  files: ReadonlyArray<RepoFile>,
  readme: string | undefined,
  wanted: Split,
): Effect.Effect<ReadonlyArray<RepoFile>, NoSplit> => {
  const fail = (reason: string) => Effect.fail(new NoSplit({ source, reason }))
  const byPath = new Map(files.toSorted((a, b) => (a.path < b.path ? -1 : 1)).map((file) => [file.path, file]))
  const all = [...byPath.keys()]
  const paths = all.filter((path) => kindOf(path) !== undefined)
  const described = readme === undefined ? undefined : fromCard(readme, paths)
  if (typeof described === "string") return fail(described)
  const configs = described ?? fromNames(paths)
  if (configs.length === 0) {
    return fail(
      "has no data files whose names tell their split; the hub's own copy may: write @refs/convert/parquet as its revision",
    )
  }
  const config =
    wanted.config === undefined
      ? (configs.find(({ isDefault }) => isDefault) ??
        configs.find(({ name }) => name === DEFAULT) ??
        (configs.length === 1 ? configs[0] : undefined))
      : configs.find(({ name }) => name === wanted.config)
  if (config === undefined) {
    const which =
      wanted.config === undefined ? "several configs, and none is the default" : `no config '${wanted.config}'`
    return fail(`has ${which}; choose one of ${configs.map(({ name }) => name).join(", ")}`)
  }
  const globs = config.splits.get(wanted.split)
  if (globs === undefined && config.splits.has(PARTIAL + wanted.split)) {
    return fail(
      `has only a part of split '${wanted.split}' in config '${config.name}': the hub's converter stopped before its end; take another revision for the whole, or write '${PARTIAL}${wanted.split}' as the split for that part`,
    )
  }
  if (globs === undefined) {
    return fail(
      `has no split '${wanted.split}' in config '${config.name}'; it has ${[...config.splits.keys()].join(", ")}`,
    )
  }
  const found = [
    ...new Set(globs.flatMap((glob) => (byPath.has(glob) ? [glob] : all.filter((path) => asks(glob, path))))),
  ]
  const problem = found.length === 0 ? `no file matches ${globs.join(", ")}` : problemOf(found, config.guessed)
  if (problem !== undefined) return fail(`has a split '${wanted.split}' in config '${config.name}' of which ${problem}`)
  return Effect.succeed(found.map((path) => byPath.get(path)!))
}

const isHidden = (part: string) => /^\.+[^.]/.test(part)
const isSpecial = (part: string) => part.startsWith("__")

/** Whether a glob means a path that it matches: what is usually passed over must be written out, part for part. */
const asks = (glob: string, path: string): boolean => {
  const parts = path.split("/")
  const asked = glob.split("/")
  const file = parts.at(-1)!
  const count = (list: ReadonlyArray<string>, is: (part: string) => boolean) => list.filter(is).length
  return (
    (!ABOUT.has(file) || asked.at(-1) === file) &&
    count(parts, isHidden) === count(asked, isHidden) &&
    count(parts.slice(0, -1), isSpecial) === count(asked.slice(0, -1), isSpecial) &&
    matches(glob, path)
  )
}

/** One kind, and every part of what is in parts. */
const problemOf = (paths: ReadonlyArray<string>, guessed: boolean): string | undefined => {
  const kinds = [...new Set(paths.map(kindOf))]
  if (kinds.includes(undefined)) {
    return `${paths.find((path) => kindOf(path) === undefined)} is not one of ${KINDS.join(", ")}`
  }
  if (kinds.length > 1)
    return `there are files in ${kinds.join(" and ")}; @refs/convert/parquet may have them in one kind`
  const parts = new Map<string, Set<number>>()
  for (const path of paths) {
    const [, stem, part, count] = PART.exec(path) ?? []
    if (count === undefined) continue
    const key = `${stem}-of-${count}`
    parts.set(key, (parts.get(key) ?? new Set()).add(Number(part)))
  }
  for (const [key, found] of parts) {
    const count = Number(/\d+$/.exec(key)![0])
    if (found.size !== count) return `only ${found.size} of ${count} parts are there (${key})`
  }
  // A card may number its files as it likes.
  return guessed ? gapIn(paths) : undefined
}

/** Files that are numbered only do not say how many there are: at least none is missing before the last. */
const gapIn = (paths: ReadonlyArray<string>): string | undefined => {
  const numbers = new Map<string, Set<number>>()
  for (const path of paths) {
    const [, folder, number] = NUMBERED.exec(path) ?? []
    if (folder !== undefined) numbers.set(folder, (numbers.get(folder) ?? new Set()).add(Number(number)))
  }
  for (const [folder, found] of numbers) {
    const missing = Array.from({ length: found.size }, (_, i) => i).find((i) => !found.has(i))
    if (missing !== undefined) return `part ${missing} is missing (${folder}*.parquet must be numbered from 0 on)`
  }
  return undefined
}

/** stem, part, count; older files carry a digest after them. */
const PART = /^(.*)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?\.\w+$/
/** folder, number */
const NUMBERED = /^((?:[^]*\/)?)(\d+)\.parquet$/

const fromNames = (paths: ReadonlyArray<string>): ReadonlyArray<Config> => {
  const configs = new Map<string, Map<string, Array<string>>>()
  for (const path of paths) {
    const parts = path.replace(/^data\//, "").split("/")
    const file = parts.pop()!
    if (ABOUT.has(file) || path.split("/").some(isHidden) || parts.some(isSpecial)) continue
    // Numbered files are parts of the split that their folder names.
    const isNumbered = NUMBERED.test(file)
    const split = isNumbered ? parts.pop() : (PART.exec(file)?.[1] ?? file.replace(/\.\w+$/, ""))
    const name = isNumbered && split?.startsWith(PARTIAL) === true ? split.slice(PARTIAL.length) : split
    if (split === undefined || name === undefined || parts.length > 1 || !/^\w+(?:\.\w+)*$/.test(name)) continue
    const config = parts[0] ?? DEFAULT
    const splits = configs.get(config) ?? new Map<string, Array<string>>()
    configs.set(config, splits)
    splits.set(split, [...(splits.get(split) ?? []), path])
  }
  return [...configs].map(([name, splits]) => ({ name, isDefault: false, splits, guessed: true }))
}

/** The configs of a card, `undefined` where it has none, or what is wrong with them. */
const fromCard = (readme: string, paths: ReadonlyArray<string>): ReadonlyArray<Config> | string | undefined => {
  const [, front] = /^\uFEFF?---[ \t]*\r?\n([^]*?)\r?\n---[ \t]*(?:\r?\n|$)/.exec(readme) ?? []
  if (front === undefined) return undefined
  const bad = (reason: string) => `has a README.md whose ${reason}`
  const document = parseDocument(front, { prettyErrors: false })
  if (document.errors.length > 0) return bad(`head is not YAML: ${document.errors[0]!.message}`)
  let head: unknown
  try {
    head = document.toJS({ maxAliasCount: 100 })
  } catch (cause) {
    return bad(`head is not YAML: ${(cause as Error).message}`)
  }
  const listed = Json.isRecord(head) ? head["configs"] : undefined
  if (listed === undefined || listed === null) return undefined
  if (!Array.isArray(listed)) return bad("configs are no list")
  const configs: Array<Config> = []
  for (const config of listed as ReadonlyArray<unknown>) {
    const {
      config_name: name,
      data_files: data,
      data_dir: folder,
      default: isDefault,
    } = Json.isRecord(config) ? config : {}
    if (typeof name !== "string") return bad("configs have one without config_name")
    if (folder !== undefined && typeof folder !== "string")
      return bad(`config '${name}' has a data_dir that is no text`)
    const base = folder === undefined ? "" : `${folder.replace(/^\.?\/+|\/+$/g, "")}/`
    const splits = data === undefined ? inFolder(base, paths) : splitsOf(data, base)
    if (typeof splits === "string") return bad(`config '${name}' ${splits}`)
    configs.push({ name, isDefault: isDefault === true, splits, guessed: data === undefined })
  }
  return configs.length === 0 ? undefined : configs
}

/** A config that names a folder alone: the names below it tell the splits. */
const inFolder = (base: string, paths: ReadonlyArray<string>): Config["splits"] | string => {
  const below = paths.filter((path) => path.startsWith(base)).map((path) => path.slice(base.length))
  const only = fromNames(below).find(({ name }) => name === DEFAULT)
  if (only === undefined) return `names no data_files, and those in '${base}' do not tell their split`
  return new Map([...only.splits].map(([split, files]) => [split, files.map((file) => base + file)]))
}

const texts = (u: unknown): ReadonlyArray<string> | undefined => {
  const list = Array.isArray(u) ? (u as ReadonlyArray<unknown>) : [u]
  return list.every((it) => typeof it === "string") ? list : undefined
}

/** `"x"` or `["x", "y"]`, which make the split `train`; or `[{ split, path }, …]`. */
const splitsOf = (data: unknown, base: string): Config["splits"] | string => {
  const at = (globs: ReadonlyArray<string>) => globs.map((glob) => base + glob.replace(/^\.?\//, ""))
  const plain = texts(data)
  if (plain !== undefined) return new Map([["train", at(plain)]])
  if (!Array.isArray(data)) return "has data_files that are neither text nor a list"
  const splits = new Map<string, ReadonlyArray<string>>()
  for (const entry of data as ReadonlyArray<unknown>) {
    const { split, path } = Json.isRecord(entry) ? entry : {}
    const globs = path === undefined ? undefined : texts(path)
    if (typeof split !== "string" || globs === undefined) return "has data_files without split and path"
    splits.set(split, [...(splits.get(split) ?? []), ...at(globs)])
  }
  return splits
}

const MAX_GLOB = 500

/**
 * Whether a glob (`*` and `?` within a folder, `**` across, `[abc]`) matches a whole path. Patterns are the repository's:
 * they are walked in time pattern × path instead of becoming a regular expression that can be made to run for ever.
 */
export const matches = (glob: string, path: string): boolean => {
  if (glob.length > MAX_GLOB) return false
  let at = new Set([0])
  for (const token of glob.match(/\*\*\/?|\*|\?|\[[^\]/]+\]|[^]/g) ?? []) {
    const next = new Set<number>()
    let running = false
    for (let i = 0; i <= path.length && at.size > 0; i++) {
      if (!token.startsWith("*")) {
        if (at.has(i) && i < path.length && fits(token, path[i]!)) next.add(i + 1)
        continue
      }
      running ||= at.has(i)
      // `**/` ends after a slash, or stands for no folder at all.
      if (token === "**/" ? at.has(i) || (running && path[i - 1] === "/") : running) next.add(i)
      if (token === "*" && path[i] === "/") running = false
    }
    at = next
  }
  return at.has(path.length)
}

const fits = (token: string, char: string): boolean => {
  if (token.length === 1) return token === "?" ? char !== "/" : token === char
  const negated = /^[!^]/.test(token.slice(1))
  const set = token.slice(negated ? 2 : 1, -1)
  let found = false
  for (let i = 0; i < set.length; i++) {
    const isRange = set[i + 1] === "-" && i + 2 < set.length
    if (isRange ? set[i]! <= char && char <= set[i + 2]! : set[i] === char) found = true
    if (isRange) i += 2
  }
  return char !== "/" && found !== negated
}
