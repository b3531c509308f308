/**
 * Prompts as a model is given them: as they stand, or as the turns of a conversation in the model's own chat template,
 * which ends where the answer begins. A tuned model that is asked in another way than it was tuned on answers worse, and
 * what that costs would pass for the cost of quantization.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Conversation, type Prompts, type Style, type Subject, type Unscorable, unscorable } from "./Scorer.ts"

export const Chat = Schema.Union([
  Schema.Boolean,
  Schema.Struct({
    /** What the conversation begins with, in the role of the system. */
    system: Schema.optionalKey(Schema.NonEmptyString),
    /** Which of the model's templates, where it has several. */
    template: Schema.optionalKey(Schema.NonEmptyString),
    /** For templates that print today's date: a fixed one, or results would change from day to day. */
    date: Schema.optionalKey(
      Schema.String.check(
        Schema.makeFilter((text: string) =>
          /^\d{4}-\d\d-\d\d$/.test(text) && new Date(`${text}T00:00:00Z`).toJSON()?.startsWith(text)
            ? undefined
            : "expected a date, YYYY-MM-DD",
        ),
      ),
    ),
  }),
])
export type Chat = typeof Chat.Type

export const fields = {
  chat: Chat.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false as const))),
  /** Whether prompts that stand as they are begin with BOS; by default as the model's tokenizer begins a text. */
  bos: Schema.optionalKey(Schema.Boolean),
}
interface Fields {
  readonly chat: Chat
  readonly bos?: boolean
}

export const style = (chat: Chat): Style => ({
  template: typeof chat === "object" ? chat.template : undefined,
  date: typeof chat === "object" ? chat.date : undefined,
})

/** What is said before the first prompt. */
export const begin = (chat: Chat): Conversation =>
  typeof chat === "object" && chat.system !== undefined ? [{ role: "system", content: chat.system }] : []

export const ask = (conversation: Conversation, content: string): Conversation => [
  ...conversation,
  { role: "user", content },
]
export const answer = (conversation: Conversation, content: string): Conversation => [
  ...conversation,
  { role: "assistant", content },
]

/** Without a chat template, what was said is the text as it stands. */
export const prompts = <E, R>(
  { bos, chat }: Fields,
  conversations: {
    readonly own: ReadonlyArray<Conversation>
    readonly reference: ReadonlyArray<Conversation> | undefined
  },
  subject: Subject<E, R>,
): Effect.Effect<Prompts, E | Unscorable, R> => {
  const { own, reference } = conversations
  if (chat !== false) {
    return Effect.map(subject.render(own, reference, style(chat)), (texts) => ({ ...texts, rendered: true, bos }))
  }
  if (bos === true && subject.lead(bos).length === 0) {
    return Effect.fail(unscorable("the task begins prompts with BOS, but the model has no BOS token; set bos: false"))
  }
  const plain = (conversation: Conversation) => conversation.map(({ content }) => content).join("")
  return Effect.succeed({ own: own.map(plain), reference: reference?.map(plain), rendered: false, bos })
}

/**
 * What is scored after a prompt. Plain prompts end in a word and what follows begins with a space; templates end where
 * the answer begins, without one (lm-evaluation-harness: `target_delimiter` is empty under a chat template).
 */
export const continuation = ({ rendered }: Prompts, text: string): string => (rendered ? text.replace(/^ /, "") : text)
