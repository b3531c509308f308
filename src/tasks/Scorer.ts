/**
 * A kind of task: what its YAML may say, and how a model is scored on it. One file per kind, named by `kind:`; the
 * tasks themselves are data (`src/tasks/*.yaml`).
 */
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { Request, TokenScores } from "../compute/Scoring.ts"
import type { Settings } from "../math/Sampling.ts"

/** One metric of one task; see the fields of `stages/Scores.ts`. */
export interface Metric {
  readonly name: string
  readonly value: number
  readonly n: number
  readonly stderr?: number
  /** 95 %, [low, high]. */
  readonly interval?: readonly [number, number]
  readonly group?: string
  readonly better: "lower" | "higher" | "neither"
  readonly chance?: number
  readonly primary: boolean
  /**
   * One number per item, in their order, whose mean `value` is or rises with: the same items under two settings are
   * compared one by one.
   */
  readonly samples?: ReadonlyArray<number>
}

/** A row of the task's data. A text file is one item with the field `text`. */
export type Item = { readonly [field: string]: unknown }

/** The data or the task cannot be scored; says which item and what would be right. */
export interface Unscorable {
  readonly _tag: "Unscorable"
  readonly message: string
}
export const unscorable = (message: string): Unscorable => ({ _tag: "Unscorable", message })

export interface GenerateOptions {
  readonly maxTokens: number
  readonly sampling: Settings
  /** Texts that end a continuation; they are not part of it. */
  readonly stop: ReadonlyArray<string>
}
/** What was said, by whom, in order. */
export type Conversation = ReadonlyArray<{
  readonly role: "system" | "user" | "assistant"
  readonly content: string
}>
/** How a chat template is used. */
export interface Style {
  /** Which of the model's; its default where none is named. */
  readonly template: string | undefined
  /** What the template takes for today, YYYY-MM-DD; it is told nothing where nothing is said. */
  readonly date: string | undefined
}
/** What a model is to continue. `reference`: where the reference's own earlier turns make its prompts differ. */
export interface Prompts {
  readonly own: ReadonlyArray<string>
  readonly reference: ReadonlyArray<string> | undefined
  /** By the model's chat template: they are whole, special tokens included. */
  readonly rendered: boolean
  /** Whether others begin with BOS; as the model's tokenizer has it where it is not said. */
  readonly bos: boolean | undefined
}
/** Continuations as text, cut at the first stop. */
export interface Generated {
  readonly own: ReadonlyArray<string>
  readonly reference: ReadonlyArray<string> | undefined
}

/** The model under test, as a scorer sees it. With a reference model, every answer carries the reference's too. */
export interface Subject<E, R> {
  /**
   * What a sequence begins with: BOS, or what stands for it, if it is asked for and there is one; where nothing is said,
   * what the tokenizer puts before a text.
   */
  readonly lead: (bos: boolean | undefined) => ReadonlyArray<number>
  /** Without `lead`. `rendered` as in `Prompts`. */
  readonly encode: (texts: ReadonlyArray<string>, rendered: boolean) => Effect.Effect<ReadonlyArray<Int32Array>, E, R>
  /** Conversations by the chat templates of the model and of the reference. */
  readonly render: (
    own: ReadonlyArray<Conversation>,
    reference: ReadonlyArray<Conversation> | undefined,
    style: Style,
  ) => Effect.Effect<Omit<Prompts, "rendered" | "bos">, E, R>
  readonly score: (requests: ReadonlyArray<Request>) => Effect.Effect<TokenScores, E, R>
  readonly generate: (prompts: Prompts, options: GenerateOptions) => Effect.Effect<Generated, E, R>
  readonly hasReference: boolean
}

export interface Outcome {
  readonly metrics: ReadonlyArray<Metric>
  /** One per item, in item order. */
  readonly records: ReadonlyArray<{ readonly [field: string]: unknown }>
}

export interface Scorer<Fields extends Schema.Struct.Fields> {
  readonly description: string
  /** What the task's YAML says beyond the common fields. */
  readonly fields: Fields
  /** Tokens of the longest sequence it is sure to need; checked against the model's context. */
  readonly needs: (task: Schema.Struct<Fields>["Type"]) => number
  readonly run: <E, R>(
    task: Schema.Struct<Fields>["Type"] & Common,
    items: ReadonlyArray<Item>,
    subject: Subject<E, R>,
  ) => Effect.Effect<Outcome, E | Unscorable, R>
}
export const make = <const Fields extends Schema.Struct.Fields>(scorer: Scorer<Fields>): Scorer<Fields> => scorer

/** What every kind of task says. */
export interface Common {
  readonly group?: string
  readonly chance?: number
}

/** The only thing asked of a scorer's module at run time. */
export const isScorer = (u: unknown): u is Scorer<any> =>
  typeof u === "object" && u !== null && "fields" in u && "run" in u && "needs" in u
