/** Models and data from the hub in studies, as the command line runs them, against a local server that speaks its protocol. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import * as Cli from "../support/cli.ts"
import { folder, write } from "../support/folder.ts"
import * as Golden from "../support/golden.ts"
import { commitOf, open, type Repo } from "../support/hubServer.ts"
import * as Tokenizer from "../support/tokenizer.ts"

const FIRST = commitOf("first")
const SECOND = commitOf("second")
const ROWS = commitOf("rows")
const file = (name: string) => readFileSync(join(Golden.path("biases"), name))
const model = {
  "config.json": file("config.json"),
  "tokenizer.json": Tokenizer.json(),
  "model.safetensors": file("model.safetensors"),
  "pytorch_model.bin": "not asked for",
}
const words = (count: number) => Array.from({ length: count }, () => "oats").join(" ")
const repos: ReadonlyArray<Repo> = [
  {
    kind: "model",
    name: "acme/tiny",
    refs: { main: FIRST },
    commits: { [FIRST]: model, [SECOND]: { ...model, "tokenizer.json": "{}" } },
  },
  {
    kind: "dataset",
    name: "acme/rows",
    refs: { main: ROWS },
    commits: {
      [ROWS]: {
        "data/test-00000-of-00002.jsonl": `{"text":${JSON.stringify(words(10))}}\n`,
        "data/test-00001-of-00002.jsonl": `{"text":${JSON.stringify(words(5))}}\n`,
      },
    },
  },
]
const STUDY = `study: hub
stages:
  base: { use: load, source: "hub:acme/tiny" }
  score: { use: evaluate, model: $base, task: ./task.yaml }
  table: { use: aggregate, scores: $score }
`
const TASK = `kind: perplexity
version: 1
description: a text
data: { source: "hub-data:acme/rows", split: test }
window: 8
stride: 8
bos: false
tail: keep
`

it.live("a study fetches, pins, and runs again without the hub", () =>
  Effect.gen(function* () {
    const root = yield* folder
    const server = yield* open(repos)
    server.resolveCache = true
    write(root, "study.yaml", STUDY)
    write(root, "task.yaml", TASK)
    const assay = (args: ReadonlyArray<string>, offline = false) =>
      Cli.assay(
        root,
        args,
        `export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 HF_ENDPOINT=${server.endpoint} HF_HOME=${join(root, "hf")}${offline ? " HF_HUB_OFFLINE=1" : ""}`,
      )
    const run = ["run", "study.yaml", "--cache", join(root, "cache")]

    const refused = yield* assay([...run, "--frozen"])
    assert.strictEqual(refused.code, 2, refused.said)
    assert.match(refused.said, /study\.yaml:3:\d+: [^]*hub:acme\/tiny/)
    assert.isFalse(existsSync(join(root, "study.lock.yaml")))

    const first = yield* assay(run)
    assert.strictEqual(first.code, 0, first.said)
    assert.match(first.said, /3 cells: 3 computed/)
    const lock = readFileSync(join(root, "study.lock.yaml"), "utf8")
    assert.include(lock, FIRST)
    assert.include(lock, ROWS)
    // Only what is needed, and the weights in one format.
    assert.isFalse(server.requests.some(({ path }) => path.includes("pytorch_model")))
    assert.isTrue(server.requests.some(({ path, status }) => path.includes("/api/resolve-cache/") && status === 200))

    // The branch moves on: the study does not, and asks nobody.
    server.repos[0] = { ...server.repos[0]!, refs: { main: SECOND } }
    const asked = server.requests.length
    const again = yield* assay([...run, "--frozen"], true)
    assert.strictEqual(again.code, 0, again.said)
    assert.match(again.said, /3 cells: 0 computed, 3 reused/)
    assert.strictEqual(server.requests.length, asked)
    assert.strictEqual(readFileSync(join(root, "study.lock.yaml"), "utf8"), lock)

    // The rows of both files, 49 and 24 tokens of a letter each: but for the first of each window of 8, every one is scored.
    const { said } = yield* assay(["results", "study.yaml", "--csv", "--cache", join(root, "cache")], true)
    assert.match(said, new RegExp(`,perplexity,[^,]*,[^,]+,${49 - 7 + 24 - 3},`))
  }),
)

it.live("what the hub refuses is told at its place in the study", () =>
  Effect.gen(function* () {
    const root = yield* folder
    const server = yield* open([{ ...repos[0]!, gatedTo: "secret" }])
    const said = (source: string) =>
      Effect.gen(function* () {
        write(root, "study.yaml", `study: hub\nstages:\n  base: { use: load, source: "${source}" }\n`)
        const { code, said } = yield* Cli.assay(
          root,
          ["plan", "study.yaml", "--cache", join(root, "cache")],
          `export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 HF_ENDPOINT=${server.endpoint} HF_HOME=${join(root, "hf")}; unset HF_TOKEN`,
        )
        assert.strictEqual(code, 2, said)
        assert.match(said, /study\.yaml:3:\d+: /)
        return said
      })
    assert.match(yield* said("hub:acme/tiny@main"), /gated/)
    assert.match(yield* said("hub:acme/nothing@main"), /acme\/nothing/)
    assert.match(yield* said("hub:acme/../x"), /acme\/\.\.\/x/)
  }),
)
