/** Runs in a worker: conversations as texts. A template may take a while, and holds up nobody here. */
import * as Effect from "effect/Effect"
import * as ChatTemplate from "../data/ChatTemplate.ts"

export interface Argument {
  readonly template: string
  /** What it takes for today, YYYY-MM-DD. */
  readonly date: string | undefined
  /** The special tokens by their names: `bos_token`. */
  readonly special: { readonly [name: string]: string }
  readonly conversations: ReadonlyArray<ReadonlyArray<ChatTemplate.Message>>
}

/** Each ends where the model's answer begins. A failure says which conversation it was, counted from 0. */
export const render = ({ conversations, date, special, template }: Argument): Promise<ReadonlyArray<string>> =>
  Effect.runPromise(
    Effect.forEach(conversations, (messages, index) =>
      Effect.mapError(
        ChatTemplate.render(template, { ...special, messages, add_generation_prompt: true }, date),
        ({ message }) => new Error(`item ${index}: ${message}`),
      ),
    ),
  )
