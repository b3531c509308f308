/** The small random Llama checkpoints of `tests/golden/families/llama`, and copies of them that a test may damage. */
import * as Effect from "effect/Effect"
import { cpSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Model } from "../../src/compute/Model.ts"
import * as Safetensors from "../../src/data/Safetensors.ts"
import { encode, type Tensor } from "../../src/data/SafetensorsWriter.ts"
import llama from "../../src/models/llama.ts"
import * as Checkpoint from "./checkpoint.ts"
import { folder, write } from "./folder.ts"
import * as Tokenizer from "./tokenizer.ts"

const root = fileURLToPath(new URL("../golden/families/llama/", import.meta.url))
export const variants: ReadonlyArray<string> = readdirSync(root)
export const path = (variant: string): string => join(root, variant)

/** The variant as a runnable model, without the engine. */
export const open = (variant: string, quantizers?: Pick<Model<never>, "activations" | "keyValue">) =>
  Checkpoint.open(path(variant), llama, quantizers)

/** Puts a copy with a tokenizer into `root/name`. */
export const copy = (variant: string, root: string, name = "model"): string => {
  const to = join(root, name)
  cpSync(path(variant), to, { recursive: true })
  rmSync(join(to, "golden.safetensors"))
  write(to, "tokenizer.json", Tokenizer.json())
  return to
}

/** The same without one key. */
export const without = <A extends object>(object: A, key: string): A =>
  Object.fromEntries(Object.entries(object).filter(([name]) => name !== key)) as A

export type Tensors = { readonly [name: string]: Tensor }
/** The tensors of a checkpoint's one file, as bytes. */
export const tensors = Effect.fnUntraced(function* (model: string) {
  const file = join(model, "model.safetensors")
  const bytes = readFileSync(file)
  const catalog = yield* Safetensors.read(file)
  const found: Tensors = Object.fromEntries(
    [...catalog.values()].map(({ bytes: length, dtype, offset, shape, tensor }) => [
      tensor,
      { dtype, shape, data: Uint8Array.from(bytes.subarray(offset, offset + length)) },
    ]),
  )
  return found
})

/** A copy in a folder of its own, with its tensors or its config changed. */
export const changed = (
  variant: string,
  changes: {
    readonly config?: (config: { readonly [key: string]: unknown }) => object
    readonly tensors?: (tensors: Tensors) => Tensors
    /** Of the bytes of the weight file. */
    readonly bytes?: (bytes: Buffer) => Uint8Array
    readonly files?: { readonly [name: string]: string }
  },
) =>
  Effect.gen(function* () {
    const study = yield* folder
    const model = copy(variant, study)
    const config = join(model, "config.json")
    const weights = join(model, "model.safetensors")
    if (changes.config)
      write(model, "config.json", JSON.stringify(changes.config(JSON.parse(readFileSync(config, "utf8")))))
    if (changes.tensors) write(model, "model.safetensors", encode(changes.tensors(yield* tensors(model))))
    if (changes.bytes) write(model, "model.safetensors", changes.bytes(readFileSync(weights)))
    for (const [name, text] of Object.entries(changes.files ?? {})) write(study, name, text)
    return study
  })
