/** A study of its own folder: a checkpoint of random weights, a text of random words, and their perplexity. */
import { spawn } from "node:child_process"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
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

/** One file for each block and one for the rest, so that writing never holds the model. */
const weights = (folder: string, config: Config, dtype: "F32" | "F16"): void => {
  const { catalog, shape } = Family.outline(llama, config)
  const prefixes = Array.from({ length: shape.layers }, (_, layer) => llama.prefix(layer))
  const shardOf = (tensor: string) => `${prefixes.findIndex((prefix) => tensor.startsWith(prefix)) + 1}.safetensors`
  const shards = Map.groupBy(catalog, ([tensor]) => shardOf(tensor))
  for (const [file, tensors] of shards) {
    const held = tensors.map(([name, dims]) => {
      const elements = dims.reduce((n, d) => n * d, 1)
      return [name, { dtype, shape: dims, data: filled(elements, dtype) }] as const
    })
    Effect.runSync(Writer.write(join(folder, file), Object.fromEntries(held)))
  }
  const map = Object.fromEntries([...catalog.keys()].map((tensor) => [tensor, shardOf(tensor)]))
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map: map }))
}

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

/** @returns the study's file, in `folder`, which holds all that it reads */
export const write = (
  folder: string,
  config: Config,
  dtype: "F32" | "F16",
  text: { readonly windows: number; readonly window: number },
): string => {
  const checkpoint = join(folder, "checkpoint")
  mkdirSync(checkpoint)
  weights(checkpoint, config, dtype)
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
  const study = join(folder, "study.yaml")
  writeFileSync(study, JSON.stringify({ study: "bench", stages }))
  return study
}

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
