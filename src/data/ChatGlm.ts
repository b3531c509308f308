/**
 * The tokenizers of ChatGLM2 and ChatGLM3: a SentencePiece model and, with ids after its pieces, the commands of the
 * published tokenization_chatglm.py. A command is no text: `encode` never makes one, or the word "philosophy" would hold
 * the command `sop`. Prompts, whose commands are meant, are encoded by `encodePrompt`.
 */
import * as Effect from "effect/Effect"
import * as SentencePiece from "./SentencePiece.ts"
import { compile, type Pipeline } from "./tokenizer/Pipeline.ts"

/** In the order of their ids. The roles are of ChatGLM3; ChatGLM2 leaves their ids unused. */
const COMMANDS = [
  "[MASK]",
  "[gMASK]",
  "[sMASK]",
  "sop",
  "eop",
  "<|system|>",
  "<|user|>",
  "<|assistant|>",
  "<|observation|>",
]
/** Commands as prompts spell them: `sop` only where it follows `[gMASK]`. */
const SPELLED = /(?<=\[gMASK\])sop|\[(?:g|s|)MASK\]|<\|(?:system|user|assistant|observation)\|>/g

export const make = Effect.fnUntraced(function* (model: SentencePiece.Model) {
  const json = SentencePiece.tokenizerJson(model, { legacy: true, addPrefixSpace: true, llama: true })
  // Of the control pieces only the end of the text is looked for in texts.
  const added = (json["added_tokens"] as ReadonlyArray<{ readonly content: string; readonly id: number }>).filter(
    ({ id }) => id === model.trainer.eosId || id === model.trainer.unkId,
  )
  const text = yield* compile({ ...json, added_tokens: added })
  const ids = new Map(COMMANDS.map((command, index) => [command, model.pieces.length + index]))
  const commands = new Map([...ids].map(([command, id]) => [id, command]))
  const decodeText = SentencePiece.decode(model)

  const encodePrompt: Pipeline["encode"] = (prompt) => {
    const out: Array<number> = []
    let end = 0
    const encodeTo = (stop: number) => {
      const own = end < stop ? text.encode(prompt.slice(end, stop)) : []
      if ("unknown" in own) return own
      for (const id of own) out.push(id)
      return undefined
    }
    for (const { 0: command, index } of prompt.matchAll(SPELLED)) {
      const failed = encodeTo(index)
      if (failed) return failed
      out.push(ids.get(command)!)
      end = index + command.length
    }
    return encodeTo(prompt.length) ?? out
  }
  /** Commands are spelled out; the text between two of them is decoded by itself. */
  const decode = (sequence: ArrayLike<number>): string => {
    let out = ""
    let between: Array<number> = []
    for (const id of Array.from(sequence)) {
      const command = commands.get(id)
      if (command === undefined) {
        between.push(id)
        continue
      }
      out += decodeText(between) + command
      between = []
    }
    return out + decodeText(between)
  }
  return {
    ...text,
    decode,
    encodePrompt,
    idOf: (token: string) => ids.get(token) ?? text.idOf(token),
    /** Where the next to speak is named, an answer is over. */
    ends: [ids.get("<|user|>")!, ids.get("<|observation|>")!],
    /** Every sequence begins with these. */
    prefix: [ids.get("[gMASK]")!, ids.get("sop")!],
    tokens: new Map([...text.tokens, ...commands]) as Pipeline["tokens"],
  }
})
