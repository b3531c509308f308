/** Generation in one turn and in two: what is said, what is taken from it, and what it is compared with. */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Pool } from "../../src/compute/Pool.ts"
import { Store } from "../../src/engine/store/Store.ts"
import { leading } from "../../src/data/tokenizer/PostProcessor.ts"
import { extract } from "../../src/tasks/generate.ts"
import { folder, write } from "../support/folder.ts"
import * as Golden from "../support/golden.ts"
import { open } from "../support/slow.ts"
import * as Slow from "../support/slowTasks.ts"
import * as Study from "../support/study.ts"
import * as Tokenizer from "../support/tokenizer.ts"

const services = Layer.merge(Pool.layer(2), Store.layerMemory)
const LOADS = `own: { use: load, source: "dir:own" }\nother: { use: load, source: "dir:other" }\n`
const task = (rest: string) =>
  `kind: generate\nversion: 1\ndescription: a test\ndata: { source: "file:items.jsonl" }\n${rest}\n`

const prepare = (rest: string, items: ReadonlyArray<object>) =>
  Effect.gen(function* () {
    const root = yield* folder
    Golden.copy("biases", root, "own")
    Golden.copy("mha", root, "other")
    write(root, "items.jsonl", items.map((item) => JSON.stringify(item)).join("\n"))
    write(root, "task.yaml", task(rest))
    return root
  })
const score = (root: string, settings = "", seed = 0) =>
  Effect.gen(function* () {
    const result = yield* Study.run(
      root,
      `${LOADS}score: { use: evaluate, model: $own, reference: $other, task: ./task.yaml${settings} }`,
      [`seed=${seed}`],
    )
    assert.deepStrictEqual(result.failures, {})
    const value = yield* Study.scores(result, "score")
    return { metrics: Study.metrics(value), records: yield* Study.records(value) }
  })

const share = (list: ReadonlyArray<boolean>) => Slow.mean(list.map(Number))
const prompts = ["the dog", "a cat is", "Q: 1+1=?\nA:", "so it goes"]
const STOP = ["s", "."]
const MOST = 8

layer(services, { excludeTestServices: true })("generate", (it) => {
  it.effect("two turns, against the slow model", () =>
    Effect.gen(function* () {
      const [own, other] = [yield* open(Golden.path("biases")), yield* open(Golden.path("mha"))]
      const talk = (model: Slow.Model) =>
        prompts.map((prompt) => {
          const first = Slow.generate(model, prompt, STOP, MOST)
          const context = `${prompt}${first}\nQ: and?`
          return [first, Slow.generate(model, context, STOP, MOST)] as const
        })
      const [mine, theirs] = [talk(own), talk(other)]
      // A letter and what follows it is the answer; half of the items expect what the model says, one what the other says.
      const pattern = /[a-z]{2}/g
      const answer = (text: string) => [...text.matchAll(pattern)].at(-1)?.[0]
      const items = prompts.map((prompt, i) => ({
        prompt,
        first: answer((i === 3 ? theirs : mine)[i]![0]) ?? "none",
        second: i % 2 ? "none" : (answer(mine[i]![1]) ?? "none"),
        kind: i < 2 ? "a" : "b",
      }))
      const root = yield* prepare(
        `prompt: "{prompt}"\nanswer: "{first}"\nfollow_up: [{ prompt: "\\nQ: and?", answer: "{second}" }]\nextract: "${pattern.source}"\nstop: ${JSON.stringify(STOP)}\nmax_tokens: ${MOST}\ngroup: "{kind}"`,
        items,
      )
      const { metrics, records } = yield* score(root)
      assert.deepStrictEqual(
        records.map((record) => record.turns.map((turn: any) => turn.said)),
        mine.map((texts) => [...texts]),
      )
      const judge = (texts: typeof mine) =>
        [0, 1].map((turn) =>
          texts.map((pair, i) => answer(pair[turn]!) === (turn === 0 ? items[i]!.first : items[i]!.second)),
        )
      const [now, was] = [judge(mine), judge(theirs)]
      assert.isTrue(now.flat().includes(true) && now.flat().includes(false))
      const kind = (kind: string) => share(now.flatMap((turn) => turn.filter((_, i) => items[i]!.kind === kind)))
      const expected = {
        exact_match: share(now.flat()),
        "exact_match[kind=a]": kind("a"),
        "exact_match[kind=b]": kind("b"),
        exact_match_turn1: share(now[0]!),
        exact_match_turn2: share(now[1]!),
        extracted: share(mine.flatMap((texts) => texts.map((text) => answer(text) !== undefined))),
        ...Slow.flips(now.flat(), was.flat()),
        same_text: share(mine.flatMap((texts, i) => texts.map((text, turn) => text === theirs[i]![turn]))),
      }
      assert.deepStrictEqual(metrics, expected)
    }),
  )

  it.effect(
    "settings of the study replace the task's; sampling repeats itself, and depends on the seed of the study",
    () =>
      Effect.gen(function* () {
        const items = prompts.map((prompt) => ({ prompt }))
        const root = yield* prepare(`prompt: "{prompt}"\nanswer: "x"\nstop: []\nmax_tokens: 12`, items)
        const said = (settings: string, seed = 0) =>
          Effect.map(score(root, settings, seed), ({ records }) => records.map(({ turns }) => turns[0].said as string))
        const greedy = yield* said("")
        assert.deepStrictEqual(yield* said(", temperature: 0"), greedy)
        assert.deepStrictEqual(yield* said(", temperature: 0.7, top_k: 1"), greedy)
        const short = yield* said(", max_tokens: 3")
        greedy.forEach((text, i) => assert.isTrue(text.startsWith(short[i]!)))
        assert.isBelow(short.join("").length, greedy.join("").length)
        const drawn = yield* said(", temperature: 1.5")
        assert.notDeepEqual(drawn, greedy)
        const fresh = Effect.provide(said(", temperature: 1.5"), Layer.fresh(Store.layerMemory))
        assert.deepStrictEqual(yield* fresh, drawn)
        assert.notDeepEqual(yield* said(", temperature: 1.5", 1), drawn)
      }),
  )
})

layer(services, { excludeTestServices: true })("what plain prompts begin with", (it) => {
  const said = (settings: string, post_processor: object | null, rest = "") =>
    Effect.gen(function* () {
      const items = prompts.map((prompt) => ({ prompt }))
      const root = yield* prepare(`prompt: "{prompt}"\nanswer: "x"\nstop: []\nmax_tokens: 6\n${rest}`, items)
      const file = JSON.parse(Tokenizer.json())
      for (const model of ["own", "other"])
        write(root, `${model}/tokenizer.json`, JSON.stringify({ ...file, post_processor }))
      const { records } = yield* score(root, settings)
      return records.map(({ turns }) => turns[0].said as string)
    })
  const own = leading("<s>", Tokenizer.BOS)

  it.effect("is what the tokenizer begins a text with, unless the task or the study says otherwise", () =>
    Effect.gen(function* () {
      const model = yield* open(Golden.path("biases"))
      const begun = prompts.map((prompt) => Slow.generate(model, prompt, [], 6))
      const bare = prompts.map((prompt) => Slow.generate(model, prompt, [], 6, []))
      assert.notDeepEqual(begun, bare)
      assert.deepStrictEqual(yield* said("", own), begun)
      assert.deepStrictEqual(yield* said("", null), bare)
      assert.deepStrictEqual(yield* said("", null, "bos: true"), begun)
      assert.deepStrictEqual(yield* said("", own, "bos: false"), bare)
      assert.deepStrictEqual(yield* said(", bos: true", null, "bos: false"), begun)
      assert.deepStrictEqual(yield* said(", bos: false", own), bare)
    }),
  )
})

describe("extract", () => {
  const cases: ReadonlyArray<readonly [string, string | undefined, string | undefined]> = [
    [" 42 ", undefined, "42"],
    ["So 3. So 42.", "So (\\d+)", "42"],
    ["So 3", "\\d", "3"],
    ["nothing", "So (\\d+)", undefined],
    ["", undefined, ""],
    ["a b", "(x)?b", "b"],
  ]
  for (const [text, pattern, expected] of cases) {
    it(`${JSON.stringify(text)} by ${pattern}`, () => assert.strictEqual(extract(text, pattern), expected))
  }
})
