/**
 * The checkpoints of `pipelines/families`, one of each family: the smallest of its golden ones, with a tokenizer of as many
 * tokens as it has. `npm run families` writes them.
 */
import { readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { write } from "./folder.ts"
import * as Tokenizer from "./tokenizer.ts"

const golden = fileURLToPath(new URL("../golden/families", import.meta.url))
export const root = fileURLToPath(new URL("../../pipelines/families", import.meta.url))
export const names: ReadonlyArray<string> = readdirSync(golden).toSorted()

/** Capital letters beyond the tokenizer's own tokens. */
const MORE = [..."DEFGHIJKLMNOPRSTVWXYZ"]

const tokenizer = (vocabulary: number) => {
  const { length } = Tokenizer.tokens
  const more = MORE.slice(0, vocabulary - length).map((letter, i) => [letter, length + i])
  return Tokenizer.json({ vocab: Object.fromEntries(more) })
}

/** What is in the folder of a family, by name. */
export const files = (family: string): { readonly [name: string]: Uint8Array } => {
  const sized = readdirSync(join(golden, family)).flatMap((variant) => {
    const folder = join(golden, family, variant)
    const size = statSync(join(folder, "model.safetensors"), { throwIfNoEntry: false })?.size
    return size === undefined ? [] : [{ folder, size }]
  })
  const { folder } = sized.reduce((least, it) => (it.size < least.size ? it : least))
  const config = readFileSync(join(folder, "config.json"))
  const { padded_vocab_size, vocab_size } = JSON.parse(config.toString())
  return {
    "config.json": config,
    "model.safetensors": readFileSync(join(folder, "model.safetensors")),
    "tokenizer.json": Buffer.from(`${tokenizer(vocab_size ?? padded_vocab_size)}\n`),
  }
}

if (import.meta.main) {
  for (const family of names) {
    for (const [name, bytes] of Object.entries(files(family))) write(root, join(family, name), bytes)
  }
}
