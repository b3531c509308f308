/**
 * Prompts as a model is given them: as they stand, or as the turns of a conversation in the model's own chat template,
 * which ends where the answer begins. A tuned model that is asked in another way than it was tuned on answers worse, and
 * what that costs would pass for the cost of quantization.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Conversation, Prompts, Subject } from "./Scorer.ts"

export const Setting = Schema.Union([
  Schema.Boolean,
  Schema.Struct({
    /** What the conversation begins with, in the role of the system. */
    system: Schema.optionalKey(Schema.NonEmptyString),
    /** Which of the model's templates, where it has several. */
    template: Schema.optionalKey(Schema.NonEmptyString),
  }),
])
export type Setting = typeof Setting.Type

export const fields = { chat: Setting.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false as const))) }

/** What is said before the first prompt. */
export const begin = (chat: Setting): Conversation =>
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
  chat: Setting,
  conversations: {
    readonly own: ReadonlyArray<Conversation>
    readonly reference: ReadonlyArray<Conversation> | undefined
  },
  subject: Subject<E, R>,
): Effect.Effect<Prompts, E, R> => {
  const { own, reference } = conversations
  if (chat !== false) return subject.render(own, reference, typeof chat === "object" ? chat.template : undefined)
  const plain = (conversation: Conversation) => conversation.map(({ content }) => content).join("")
  return Effect.succeed({ own: own.map(plain), reference: reference?.map(plain), rendered: false })
}
