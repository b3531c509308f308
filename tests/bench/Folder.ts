/** A study of its own folder: a checkpoint of random weights, a text of random words, and their perplexity. */
import { spawn } from "node:child_process"
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Writer from "../../src/data/SafetensorsWriter.ts"
import { toF16 } from "../../src/math/Half.ts"
import * as Random from "../../src/math/Random.ts"
import * as Family from "../../src/models/Family.ts"
import llama from "../../src/models/llama.ts"
import { type Config, noise } from "./Blocks.ts"

/** Elements of noise that are made; longer tensors repeat them. */
const PERIOD = 1 << 20

/** Raw elements of noise. */
const filled = (elements: number, dtype: "F32" | "F16"): Uint8Array => {
  const floats = new Float32Array(PERIOD)
  noise(floats, 1n)
  const halves = new Uint16Array(dtype === "F16" ? PERIOD : 0)
  if (dtype === "F16") toF16(floats, halves)
  const period = new Uint8Array(dtype === "F16" ? halves.buffer : floats.buffer)
  const bytes = new Uint8Array(elements * (dtype === "F16" ? 2 : 4))
  for (let at = 0; at < bytes.length; at += period.length) bytes.set(period.subarray(0, bytes.length - at), at)
  return bytes
}

/** A checkpoint's index; `write` makes a file of the tensors it is given. */
const sharded = (
  folder: string,
  config: Config,
  shardOf: (tensor: string) => string,
  write: (file: string, tensors: ReadonlyArray<readonly [name: string, dims: ReadonlyArray<number>]>) => void,
): void => {
  const { catalog } = Family.outline(llama, config)
  const shards = Map.groupBy(catalog, ([tensor]) => shardOf(tensor))
  for (const [file, tensors] of shards) write(join(folder, file), tensors)
  const map = Object.fromEntries([...catalog.keys()].map((tensor) => [tensor, shardOf(tensor)]))
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map: map }))
}

/** Which file a tensor is in: one for each `layers` blocks, and one for the rest. */
const everyLayers = (config: Config, layers: number) => {
  const prefixes = Array.from({ length: config.num_hidden_layers }, (_, layer) => llama.prefix(layer))
  return (tensor: string) => {
    const layer = prefixes.findIndex((prefix) => tensor.startsWith(prefix))
    return `${Math.floor(layer / layers) + 1}.safetensors`
  }
}

/** One file for each block and one for the rest, so that writing never holds the model. */
const weights = (folder: string, config: Config, dtype: "F32" | "F16"): void =>
  sharded(folder, config, everyLayers(config, 1), (file, tensors) => {
    const held = tensors.map(([name, dims]) => {
      const elements = dims.reduce((n, d) => n * d, 1)
      return [name, { dtype, shape: dims, data: filled(elements, dtype) }] as const
    })
    Effect.runSync(Writer.write(file, Object.fromEntries(held)))
  })

/** Four blocks to a file of zeros in float16, of which the disk holds the header alone. */
const holes = (folder: string, config: Config): void =>
  sharded(folder, config, everyLayers(config, 4), (file, tensors) => {
    let end = 0
    const entries = tensors.map(([name, dims]) => {
      const data_offsets = [end, (end += dims.reduce((n, d) => n * d, 2))]
      return [name, { dtype: "F16", shape: dims, data_offsets }] as const
    })
    const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
    const head = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, " ")
    head.writeBigUInt64LE(BigInt(head.length - 8))
    json.copy(head, 8)
    const handle = openSync(file, "w")
    writeSync(handle, head)
    ftruncateSync(handle, head.length + end)
    closeSync(handle)
  })

const LETTERS = "abcdefghijklmnopqrstuvwxyz"

/** Every letter is a token, and so is the space before a word. */
const tokenizer = () =>
  JSON.stringify({
    version: "1.0",
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      unk_token: null,
      vocab: Object.fromEntries([..."Ġ", ...LETTERS].map((token, id) => [token, id])),
      merges: [],
    },
  })

const words = (tokens: number): string => {
  const random = Random.make(4n)
  return Array.from({ length: tokens }, (_, i) => (i % 6 === 5 ? " " : LETTERS[random.below(26)])).join("")
}

interface Text {
  readonly windows: number
  readonly window: number
}

/** All of a study but the weights, which `fill` puts into the checkpoint's folder. */
const study = (folder: string, config: Config, text: Text, fill: (checkpoint: string) => void): string => {
  const checkpoint = join(folder, "checkpoint")
  mkdirSync(checkpoint)
  fill(checkpoint)
  writeFileSync(join(checkpoint, "config.json"), JSON.stringify({ model_type: "llama", ...config }))
  writeFileSync(join(checkpoint, "tokenizer.json"), tokenizer())
  writeFileSync(join(folder, "words.txt"), words(text.windows * text.window))
  const { window } = text
  const task = { kind: "perplexity", version: 1, description: "random words", window, stride: window, bos: false }
  writeFileSync(join(folder, "task.yaml"), JSON.stringify({ ...task, data: { source: `file:${folder}/words.txt` } }))
  const stages = {
    base: { use: "load", source: "dir:./checkpoint" },
    score: { use: "evaluate", model: "$base", task: "./task.yaml" },
  }
  const file = join(folder, "study.yaml")
  writeFileSync(file, JSON.stringify({ study: "bench", stages }))
  return file
}

/** @returns the study's file, in `folder`, which holds all that it reads */
export const write = (folder: string, config: Config, dtype: "F32" | "F16", text: Text): string =>
  study(folder, config, text, (checkpoint) => weights(checkpoint, config, dtype))

/** The same of a checkpoint of zeros that takes no room on the disk. */
export const writeHoles = (folder: string, config: Config, text: Text): string =>
  study(folder, config, text, (checkpoint) => holes(checkpoint, config))

const main = new URL("../../src/main.ts", import.meta.url).pathname
const peak = new URL("./children/peak.ts", import.meta.url).href

/** A Node process that writes down its peak memory as it ends. */
const node = (folder: string, args: ReadonlyArray<string>) =>
  Effect.callback<{ readonly seconds: number; readonly peakMemory: number }>((resume) => {
    const since = performance.now()
    const report = join(folder, "peak")
    const env = { ...process.env, PEAK_FILE: report }
    const child = spawn(process.execPath, ["--import", peak, ...args], { env, stdio: ["ignore", "ignore", "pipe"] })
    let said = ""
    child.stderr.on("data", (chunk) => (said += chunk))
    child.on("close", (code) => {
      const seconds = (performance.now() - since) / 1000
      if (code !== 0) return resume(Effect.die(new Error(`${args.join(" ")} ended with ${code}: ${said}`)))
      resume(Effect.succeed({ seconds, peakMemory: Number(readFileSync(report, "utf8")) }))
    })
    return Effect.sync(() => child.kill())
  })

/** The study from the command line, with a cache that holds nothing yet. Peak memory in bytes. */
export const run = (folder: string, study: string) =>
  Effect.suspend(() => {
    const cache = join(folder, "cache")
    rmSync(cache, { recursive: true, force: true })
    return node(folder, [main, "run", study, "--cache", cache])
  })

/** A process that loads ONNX Runtime in its workers and does nothing with it. */
export const idle = (folder: string) => node(folder, [new URL("./children/idle.ts", import.meta.url).pathname])
