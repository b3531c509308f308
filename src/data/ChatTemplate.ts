/**
 * A conversation as the text that a model was tuned on, by the Jinja template of its checkpoint. Templates come with
 * the weights, so they are interpreted (@huggingface/jinja), never compiled to code, and bounded: in steps, in what a
 * value may hold, and in depth by the stack. They see the variables they are given and nothing else; there is no clock
 * but a date that the caller fixes, so that equal conversations are equal texts.
 */
import * as Jinja from "@huggingface/jinja"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Json from "./Json.ts"

export interface Message {
  readonly role: string
  readonly content: unknown
  readonly [key: string]: unknown
}

export interface Variables {
  readonly messages: ReadonlyArray<Message>
  /** Whether the text ends where the model's answer begins. */
  readonly add_generation_prompt: boolean
  readonly bos_token?: string
  readonly eos_token?: string
  readonly [name: string]: unknown
}

/** No template, or none of the wanted name. */
export class NoTemplate extends Schema.TaggedError<NoTemplate>()("NoTemplate", {
  name: Schema.UndefinedOr(Schema.String),
  known: Schema.Array(Schema.String),
}) {
  override get message() {
    if (this.known.length === 0)
      return "the checkpoint has no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json"
    const wanted = this.name === undefined ? "no default chat template" : `no chat template ${Json.shown(this.name)}`
    return `the checkpoint has ${wanted}; it has ${this.known.join(", ")}`
  }
}

/** What stands for a template is none. */
export class BadTemplate extends Schema.TaggedError<BadTemplate>()("BadTemplate", { reason: Schema.String }) {
  override get message() {
    return `the chat template cannot be read: ${this.reason}`
  }
}

/** The template itself refused the conversation: raise_exception. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { reason: Schema.String }) {
  override get message() {
    return `the chat template refuses the conversation: ${this.reason}`
  }
}

/** The template asks for what does not exist, or for too much. */
export class TemplateFailed extends Schema.TaggedError<TemplateFailed>()("TemplateFailed", { reason: Schema.String }) {
  override get message() {
    return `the chat template failed: ${this.reason}`
  }
}

/** By name; "default" is the one that is meant where none is named. */
export type Templates = { readonly [name: string]: string }

/** The templates of a checkpoint: `chat_template` of its tokenizer_config.json, a text or a list of named texts. */
export const declared = (value: unknown): Effect.Effect<Templates, BadTemplate> => {
  if (value === undefined || value === null) return Effect.succeed({})
  if (typeof value === "string") return Effect.succeed({ default: value })
  if (!Array.isArray(value)) {
    return Effect.fail(new BadTemplate({ reason: "chat_template is neither a text nor a list of named texts" }))
  }
  const templates = new Map<string, string>()
  for (const [index, entry] of value.entries()) {
    const { name, template } = Json.isRecord(entry) ? entry : {}
    if (typeof name !== "string" || typeof template !== "string") {
      return Effect.fail(new BadTemplate({ reason: `chat_template[${index}] has no name and template` }))
    }
    if (templates.has(name)) {
      return Effect.fail(new BadTemplate({ reason: `chat_template has ${Json.shown(name)} twice` }))
    }
    templates.set(name, template)
  }
  return Effect.succeed(Object.fromEntries(templates))
}

export const pick = (templates: Templates, name?: string): Effect.Effect<string, NoTemplate> =>
  Object.hasOwn(templates, name ?? "default")
    ? Effect.succeed(templates[name ?? "default"]!)
    : Effect.fail(new NoTemplate({ name, known: Object.keys(templates) }))

/** Far beyond any conversation, and within a second or so. */
const MOST_STEPS = 500_000
/** Of a range: they are made at once. */
const MOST_NUMBERS = 10_000
/** Of a text in UTF-16 units, of a list in elements. */
const MOST_LENGTH = 4_000_000

/** Where the package trips over a template, what the engine says of it tells a user nothing. */
const reasonOf = (cause: unknown): string => {
  if (cause instanceof RangeError) return "it nests too deeply, or makes something too long"
  return cause instanceof TypeError ? "it is not well-formed" : (cause as Error).message
}

/** @param date what the template takes for today, YYYY-MM-DD: `strftime_now` is defined where it is given */
export const render = (
  template: string,
  variables: Variables,
  date?: string,
): Effect.Effect<string, BadTemplate | Refused | TemplateFailed> =>
  Effect.gen(function* () {
    const { parsed } = yield* Effect.try({
      try: () => new Jinja.Template(template),
      catch: (cause) => new BadTemplate({ reason: reasonOf(cause) }),
    })
    return yield* Effect.try({
      try: () => run(parsed, { ...variables, ...(date !== undefined && { strftime_now: clock(date) }) }),
      catch: (cause) => {
        if (cause instanceof Refused) return cause
        const asks = date === undefined && template.includes("strftime_now")
        const hint = asks ? "; it asks for today's date, which is given as chat: { date: YYYY-MM-DD }" : ""
        return new TemplateFailed({ reason: reasonOf(cause) + hint })
      },
    })
  })

/** Python's `strftime` of the beginning of a day, in English. */
const clock = (date: string) => {
  const day = new Date(`${date}T00:00:00Z`)
  const named = (options: Intl.DateTimeFormatOptions) =>
    new Intl.DateTimeFormat("en-US", { ...options, timeZone: "UTC" }).format(day)
  const [year, month, number] = date.split("-") as [string, string, string]
  const codes: { readonly [code: string]: string } = {
    Y: year,
    y: year.slice(2),
    m: month,
    d: number,
    "-d": String(Number(number)),
    "-m": String(Number(month)),
    B: named({ month: "long" }),
    b: named({ month: "short" }),
    A: named({ weekday: "long" }),
    a: named({ weekday: "short" }),
    H: "00",
    I: "12",
    M: "00",
    S: "00",
    p: "AM",
    "%": "%",
  }
  return (format: unknown) =>
    String(format).replace(/%(-?.)/g, (whole, code: string) => {
      if (Object.hasOwn(codes, code)) return codes[code]!
      throw new Error(`strftime_now knows nothing of ${whole}`)
    })
}

const GLOBALS = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  raise_exception: (reason: unknown) => {
    throw new Refused({ reason: String(reason) })
  },
  range: (start: number, stop?: number, step = 1) => {
    const [from, to] = stop === undefined ? [0, start] : [start, stop]
    const length = Math.max(0, Math.ceil((to - from) / step))
    if (!(length <= MOST_NUMBERS)) throw new Error(`range(${from}, ${to}, ${step}) is too long`)
    return Array.from({ length }, (_, index) => from + index * step)
  },
}

/** The package's types leave out what its index exports from other files. */
interface Value {
  readonly type: string
  readonly value: unknown
}
interface Node {
  readonly type: string
}
const { Environment, Interpreter } = Jinja as unknown as {
  readonly Environment: new () => { readonly set: (name: string, value: unknown) => Value }
  readonly Interpreter: new (environment: object) => {
    run(program: unknown): Value
    evaluate(node: Node, environment: object): Value
    evaluateBlock(nodes: ReadonlyArray<Node>, environment: object): Value
  }
}

const run = (parsed: unknown, variables: Variables): string => {
  const environment = new Environment()
  // As transformers has it, what is not given to a template is None.
  for (const [name, value] of Object.entries({ ...GLOBALS, tools: null, documents: null, ...variables })) {
    if (value !== undefined) environment.set(name, value)
  }
  return (new Bounded(environment).run(parsed) as { readonly value: string }).value
}

/** What stands in a template without being printed. */
const SILENT = new Set(["Set", "Macro", "Comment"])

/**
 * Counts every node that is evaluated, and the size of what each gives. Prints as Python does what the package prints
 * otherwise (0.5.11): `true` is True and `none` None; lists and mappings, whose Python form it does not have, are refused.
 */
class Bounded extends Interpreter {
  private steps = 0
  private made = 0
  override evaluate(node: Node, environment: object): Value {
    if (++this.steps > MOST_STEPS) throw new Error(`it takes more than ${MOST_STEPS} steps`)
    const result = super.evaluate(node, environment)
    const { value } = result
    const length = typeof value === "string" || Array.isArray(value) ? value.length : 0
    this.made += length
    if (length > MOST_LENGTH) throw new Error(`it makes a value longer than ${MOST_LENGTH}`)
    if (this.made > 16 * MOST_LENGTH) throw new Error(`it makes more than ${16 * MOST_LENGTH} characters in all`)
    return result
  }
  override evaluateBlock(nodes: ReadonlyArray<Node>, environment: object): Value {
    let out = ""
    for (const node of nodes) {
      // What a block printed before `break` or `continue` is lost by the package.
      if (out !== "" && (node.type === "Break" || node.type === "Continue")) throw new Error(BROKEN)
      let value: Value
      try {
        value = this.evaluate(node, environment)
      } catch (cause) {
        if (out !== "" && /^(?:Break|Continue)Control$/.test((cause as Error).constructor.name)) {
          throw new Error(BROKEN, { cause })
        }
        throw cause
      }
      if (!SILENT.has(node.type)) out += printed(value)
    }
    return new Environment().set("printed", out)
  }
}
const BROKEN = "it leaves a loop's turn after having printed in it, which is not supported"

const printed = ({ type, value }: Value): string => {
  if (type === "StringValue" || type === "IntegerValue") return String(value)
  if (type === "BooleanValue") return value === true ? "True" : "False"
  if (type === "NullValue") return "None"
  if (type === "UndefinedValue") return ""
  if (type === "FloatValue") return Number.isInteger(value) ? `${String(value)}.0` : String(value)
  throw new Error(`it prints a value of the type ${type}; only texts, numbers, true, false and none are`)
}
