/**
 * `npm run bench:pytorch [-- family …]`: the blocks of some families beside the same blocks in PyTorch, on as many threads
 * and in float32, one after the other in one run. `ASSAY_PYTHON` is a Python with `tests/reference/requirements.txt`.
 */
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import { availableParallelism } from "node:os"
import { Pool } from "../../../src/compute/Pool.ts"
import * as Family from "../../../src/models/Family.ts"
import { modules } from "../../support/plugins.ts"
import * as Blocks from "../Blocks.ts"
import * as Sized from "../Sized.ts"

const ROUNDS = 3
const { LENGTH, TOGETHER } = Sized

const speed = new URL("../../reference/speed.py", import.meta.url).pathname

interface Theirs {
  readonly tokens_per_second: number
  readonly versions: string
}

/** Tokens a second of `tests/reference/speed.py`, which makes sure that its blocks hold as many weights. */
const theirs = (python: string, name: string, raw: unknown, weights: number): Theirs => {
  const shape = { batch: TOGETHER, length: LENGTH, threads: availableParallelism(), rounds: ROUNDS }
  const asked = JSON.stringify({ model_type: name, config: raw, weights, ...shape })
  const { error, status, stderr, stdout } = spawnSync(python, [speed], { input: asked, encoding: "utf8" })
  if (error !== undefined || status !== 0)
    throw new Error(`${python} ${speed} ended with ${status}: ${error?.message ?? stderr}`)
  return JSON.parse(stdout)
}

/** Tokens a second. */
const ours = Effect.fnUntraced(function* (model: Parameters<typeof Sized.pass>[0]) {
  const { size } = yield* Pool
  const [time] = yield* Blocks.race(ROUNDS, [yield* Sized.pass(model, size)])
  return (size * TOGETHER * LENGTH * 1000) / time!
})

/** Weights of all blocks. */
const weights = (family: Family.Family<any>, config: unknown): number => {
  const { catalog, shape } = Family.outline(family, config)
  const prefixes = Array.from({ length: shape.layers }, (_, layer) => family.prefix(layer))
  return [...catalog]
    .filter(([tensor]) => prefixes.some((prefix) => tensor.startsWith(prefix)))
    .reduce((sum, [, dims]) => sum + dims.reduce((n, d) => n * d, 1), 0)
}

const compare = async (python: string, name: string, family: Family.Family<any>) => {
  const { config, raw } = Sized.config(name, family)
  const model = Blocks.modelOf(family, config, { activations: {}, keyValue: {} })
  const rate = await Effect.runPromise(Effect.provide(ours(model), Pool.layer(availableParallelism())))
  const { tokens_per_second: other, versions } = theirs(python, name, raw, weights(family, config))
  console.log(
    `${name.padEnd(12)}${rate.toFixed(0).padStart(10)}${other.toFixed(0).padStart(10)}${(rate / other).toFixed(2).padStart(18)}`,
  )
  return versions
}

const python = process.env["ASSAY_PYTHON"]
const found = await modules("src/models")
const asked = process.argv.slice(2)
const names = asked.length > 0 ? asked : ["llama", "gpt_neox", "falcon", "gemma", "mamba", "mixtral"]
const unknown = names.filter((name) => !found.some((family) => family.name === name))
if (unknown.length > 0)
  console.log(`no family ${unknown.join(", ")}; there are ${found.map(({ name }) => name).join(", ")}`)
else if (python === undefined)
  console.log("skipped: ASSAY_PYTHON does not say which Python has tests/reference/requirements.txt installed")
else {
  console.log(
    `${"tokens/s".padEnd(12)}${"Assay".padStart(10)}${"PyTorch".padStart(10)}${"Assay / PyTorch".padStart(18)}`,
  )
  const versions = new Set<string>()
  for (const name of names) {
    const { value } = found.find((family) => family.name === name)!
    versions.add(await compare(python, name, value as Family.Family<any>))
  }
  console.log(`${[...versions].join("; ")}; float32, ${availableParallelism()} threads`)
}
