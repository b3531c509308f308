/**
 * A command of the command line: what it takes, what it does, and its help. Parsed with Node's own parser, so that help
 * and a run in which nothing changed start at once.
 */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { parseArgs } from "node:util"
import { suggest } from "../engine/study/Nearest.ts"

interface Documented {
  readonly description: string
  readonly short?: string
}
/** Given or not. */
export interface Switch extends Documented {
  readonly kind: "switch"
}
/** A value: text, or a whole number of at least 1. `bare` stands for a flag without one: `--force` beside `--force=x`. */
export interface Valued<K extends string> extends Documented {
  readonly kind: K
  readonly value: string
  readonly choices?: ReadonlyArray<string>
  readonly bare?: string
}
export type Flag = Switch | Valued<"text" | "texts" | "count">
export type Flags = { readonly [name: string]: Flag }

type ValueOf<F extends Flag> = {
  readonly switch: boolean
  readonly text: string | undefined
  readonly texts: ReadonlyArray<string>
  readonly count: number | undefined
}[F["kind"]]
export type Input<A extends string, F extends Flags> = { readonly [K in A]: string } & {
  readonly [K in keyof F]: ValueOf<F[K]>
}

export interface Argument {
  readonly name: string
  readonly description: string
  readonly choices?: ReadonlyArray<string>
}

export interface Command<in I, out E, out R> {
  readonly name: string
  readonly description: string
  readonly arguments: ReadonlyArray<Argument>
  readonly flags: Flags
  readonly examples: ReadonlyArray<readonly [command: string, what: string]>
  readonly run: (input: I) => Effect.Effect<void, E, R>
}
export type Any<E, R> = Command<any, E, R>

export const make = <const A extends ReadonlyArray<Argument>, const F extends Flags, E, R>(
  command: Omit<Any<E, R>, "arguments" | "flags" | "run"> & {
    readonly arguments: A
    readonly flags: F
    readonly run: (input: Input<A[number]["name"], F>) => Effect.Effect<void, E, R>
  },
): Command<Input<A[number]["name"], F>, E, R> => command

/** Gives the command what it asks for, made from its input. */
export const provide = <I, E, R, A, E2>(
  command: Command<I, E, R>,
  layer: (input: I) => Layer.Layer<A, E2>,
): Command<I, E | E2, Exclude<R, A>> => ({
  ...command,
  run: (input) => Effect.provide(command.run(input), layer(input)),
})

/** The call is not one that the command knows. */
export class UsageError extends Error {
  override readonly name = "UsageError"
}

/** `--keep-going` is written `keepGoing` in code. */
const written = (name: string) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

const choose = (what: string, value: string, choices: ReadonlyArray<string> | undefined) => {
  if (choices !== undefined && !choices.includes(value))
    throw new UsageError(`${what}: no '${value}'; ${suggest(value, choices)}`)
  return value
}
const countOf = (name: string, text: string) => {
  if (!/^[1-9]\d*$/.test(text)) throw new UsageError(`--${name}: '${text}' is not a whole number of at least 1`)
  return Number(text)
}

/** The command's input. Throws a `UsageError`. */
const parse = ({ arguments: expected, flags }: Any<any, any>, args: ReadonlyArray<string>): object => {
  const byName = new Map(Object.entries(flags).map(([key, flag]) => [written(key), { key, flag }]))
  const bare = new Map([...byName].flatMap(([name, { flag }]) => ("bare" in flag ? [[`--${name}`, flag.bare]] : [])))
  const { positionals, tokens } = parseArgs({
    args: args.map((arg) => (bare.has(arg) ? `${arg}=${bare.get(arg)}` : arg)),
    options: Object.fromEntries(
      Array.from(byName, ([name, { flag }]) => [
        name,
        { type: flag.kind === "switch" ? "boolean" : "string", ...(flag.short !== undefined && { short: flag.short }) },
      ]),
    ),
    allowPositionals: true,
    strict: false,
    tokens: true,
  })

  const input: Record<string, unknown> = {}
  for (const [key, { kind }] of Object.entries(flags))
    input[key] = kind === "switch" ? false : kind === "texts" ? [] : undefined
  for (const token of tokens) {
    if (token.kind !== "option") continue
    const known = byName.get(token.name)
    const names = Array.from(byName.keys(), (name) => `--${name}`)
    if (known === undefined) throw new UsageError(`no flag ${token.rawName}; ${suggest(token.rawName, names)}`)
    const { flag, key } = known
    if (flag.kind === "switch") {
      if (token.value !== undefined) throw new UsageError(`--${token.name} takes no value`)
      input[key] = true
      continue
    }
    const isMissing = token.value === undefined || (!token.inlineValue && token.value.startsWith("-"))
    if (isMissing) throw new UsageError(`--${token.name} needs a value: ${flag.value}`)
    const value = choose(`--${token.name}`, token.value!, flag.choices)
    if (flag.kind === "texts") (input[key] as Array<string>).push(value)
    else input[key] = flag.kind === "count" ? countOf(token.name, value) : value
  }

  for (const [i, { choices, name }] of expected.entries()) {
    const value = positionals[i]
    if (value === undefined) throw new UsageError(`which ${name}?${choices ? ` One of ${choices.join(", ")}.` : ""}`)
    input[name] = choose(name, value, choices)
  }
  const excess = positionals.slice(expected.length)
  if (excess.length > 0) throw new UsageError(`'${excess.join(" ")}' is more than the command takes`)
  return input
}

const columns = (rows: ReadonlyArray<readonly [string, string]>) => {
  const width = Math.max(0, ...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`)
}
const section = (title: string, lines: ReadonlyArray<string>) => (lines.length === 0 ? [] : ["", title, ...lines])

const usage = (flag: Flag, name: string) => {
  const short = flag.short === undefined ? "" : `-${flag.short}, `
  if (flag.kind === "switch") return `${short}--${name}`
  return `${short}--${name}${flag.bare === undefined ? ` <${flag.value}>` : `[=<${flag.value}>]`}`
}

const help = ({ arguments: args, description, examples, flags, name }: Any<any, any>): string =>
  [
    description,
    ...section("Usage", [`  assay ${[name, ...args.map((arg) => `<${arg.name}>`)].join(" ")} [flags]`]),
    ...section(
      "Arguments",
      columns(
        args.map((arg) => [`<${arg.name}>`, [arg.description, arg.choices?.join(", ")].filter(Boolean).join(": ")]),
      ),
    ),
    ...section(
      "Flags",
      columns(Object.entries(flags).map(([key, flag]) => [usage(flag, written(key)), flag.description])),
    ),
    ...section("Examples", columns(examples)),
  ].join("\n")

const overview = (description: string, commands: ReadonlyArray<Any<any, any>>): string =>
  [
    description,
    ...section("Usage", ["  assay <command> [flags]"]),
    ...section("Commands", columns(commands.map(({ description, name }) => [name, description]))),
    "",
    "assay <command> --help tells more of a command.",
  ].join("\n")

const isHelp = (arg: string | undefined) => arg === "--help" || arg === "-h" || arg === "help"

export interface Program<C extends Any<any, any>> {
  readonly description: string
  readonly version: () => string
  readonly commands: ReadonlyArray<C>
}

/** What a call asks for: a text to print, or a command to run. Throws a `UsageError`. */
export const interpret = <C extends Any<any, any>>(
  { commands, description, version }: Program<C>,
  args: ReadonlyArray<string>,
): string | ReturnType<C["run"]> => {
  const [name] = args
  if (name === undefined || isHelp(name)) return overview(description, commands)
  if (name === "--version" || name === "-v") return version()
  // A command's name is one word, or two: `cache gc`.
  const command = commands.find((command) => args.slice(0, command.name.split(" ").length).join(" ") === command.name)
  if (command === undefined) {
    const names = commands.map((command) => command.name)
    const inside = names.filter((command) => command.startsWith(`${name} `))
    if (inside.length > 0) throw new UsageError(`which ${name} command? ${inside.join(", ")}`)
    throw new UsageError(`no command '${name}'; ${suggest(name, names)}`)
  }
  const rest = args.slice(command.name.split(" ").length)
  return rest.some((arg) => arg === "--help" || arg === "-h")
    ? help(command)
    : (command.run(parse(command, rest)) as ReturnType<C["run"]>)
}
