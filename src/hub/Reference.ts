/**
 * What a study writes to name something on a Hugging Face hub.
 *
 *     hub:owner/name@revision#file.gguf      a model; revision (a branch, tag or commit) and file may be left out
 *     hub-data:owner/name@revision           a data set; its config and split are said beside it
 *
 * Old repositories have no owner: `hub:gpt2`. Without a revision, `main` is meant.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { unsafePath } from "./Layout.ts"

export interface Reference {
  readonly kind: "model" | "dataset"
  /** `owner/name`, or `name` alone. */
  readonly name: string
  readonly revision: string
  /** The one weight file that is asked for; of models only. */
  readonly file: string | undefined
}

/** Text that names nothing on a hub. */
export class BadReference extends Schema.TaggedError<BadReference>()("BadReference", {
  text: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `'${this.text}' ${this.reason}; write hub:owner/name@revision, hub:owner/name@revision#file.gguf or hub-data:owner/name@revision`
  }
}

const SCHEMES = { hub: "model", "hub-data": "dataset" } as const

/** Whether a source is meant to be on a hub at all. */
export const isReference = (text: string): boolean => /^hub(-data)?:/.test(text)

export const parse = (text: string): Effect.Effect<Reference, BadReference> => {
  const found = read(text)
  return typeof found === "string" ? Effect.fail(new BadReference({ text, reason: found })) : Effect.succeed(found)
}

/** A reference, or what is wrong with the text. */
export const read = (text: string): Reference | string => {
  const [, scheme, rest] = /^(hub|hub-data):([^]*)$/.exec(text) ?? []
  if (rest === undefined) return "names no hub"
  const [place, file, ...more] = rest.split("#")
  const at = place!.indexOf("@")
  const name = at === -1 ? place! : place!.slice(0, at)
  const revision = at === -1 ? "main" : place!.slice(at + 1)
  const kind = SCHEMES[scheme as keyof typeof SCHEMES]
  const problem = badName(name) ?? badRevision(revision)
  if (problem !== undefined) return problem
  if (file === undefined) return { kind, name, revision, file }
  if (kind === "dataset") return "names a file of a data set; its config and split say which files are read"
  if (more.length > 0 || unsafePath(file) !== undefined) return `names the file '${[file, ...more].join("#")}'`
  if (!file.endsWith(".gguf")) return `names the file '${file}'; only a .gguf file is chosen by name`
  return { kind, name, revision, file }
}

/** The rules of the hub: letters, digits, `-`, `_` and `.`; no `--` or `..`; neither `-` nor `.` at either end. */
const badName = (name: string): string | undefined => {
  const parts = name.split("/")
  if (parts.length > 2) return `has the repository '${name}', with more than one '/'`
  if (name.includes("--") || name.includes("..") || name.endsWith(".git")) {
    return `has the repository '${name}', which may not contain '--' or '..' nor end in '.git'`
  }
  return parts.every((part) => /^\w(?:[\w.-]{0,94}\w)?$/.test(part))
    ? undefined
    : `has the repository '${name}', which is not a name of letters, digits, '-', '_' and '.'`
}

/** The rules of `git check-ref-format`; the revision becomes a file name in the cache. */
const badRevision = (revision: string): string | undefined =>
  /^(?!\/)(?!.*(?:\.\.|\/\/|@\{|\/\.))[^\s\p{Cc}~^:?*[\\]{1,200}$/u.test(revision) &&
  !/^[-.@]|[/.]$|\.lock(?:\/|$)/.test(revision)
    ? undefined
    : `has the revision '${revision}', which is no name of a branch, tag or commit`

/** As it is written where it is kept: the revision spelled out, without the file. */
export const show = ({ kind, name, revision }: Reference): string =>
  `${kind === "model" ? "hub" : "hub-data"}:${name}@${revision}`

/** A commit can be asked for as it is; everything else moves. */
export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision)
