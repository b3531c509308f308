/** Every metric of every kind of task, on a handful of items, against its definition computed slowly. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Pool } from "../../src/compute/Pool.ts"
import { Store } from "../../src/engine/store/Store.ts"
import { folder, write } from "../support/folder.ts"
import * as Golden from "../support/golden.ts"
import { open } from "../support/slow.ts"
import * as Slow from "../support/slowTasks.ts"
import * as Study from "../support/study.ts"
import { encode } from "../support/tokenizer.ts"

const services = Layer.merge(Pool.layer(2), Store.layerMemory)
const STUDY = `
own: { use: load, source: "dir:own" }
other: { use: load, source: "dir:other" }
score: { use: evaluate, model: $own, reference: $other, task: ./task.yaml }
same: { use: evaluate, model: $own, reference: $own, task: ./task.yaml }
alone: { use: evaluate, model: $own, task: ./task.yaml }`

/** Two unlike models; in `own`, a study with the task and its items. */
const prepare = (task: string, items: ReadonlyArray<object> | string) =>
  Effect.gen(function* () {
    const root = yield* folder
    Golden.copy("biases", root, "own")
    Golden.copy("mha", root, "other")
    const data = typeof items === "string" ? "data.txt" : "data.jsonl"
    write(root, data, typeof items === "string" ? items : items.map((item) => JSON.stringify(item)).join("\n"))
    write(root, "task.yaml", `version: 1\ndescription: a test\ndata: { source: "file:${data}" }\n${task}\n`)
    const [own, other] = [yield* open(Golden.path("biases")), yield* open(Golden.path("mha"))]
    const result = yield* Study.run(root, STUDY)
    assert.deepStrictEqual(result.failures, {})
    const [score, same, alone] = [
      yield* Study.scores(result, "score"),
      yield* Study.scores(result, "same"),
      yield* Study.scores(result, "alone"),
    ]
    return { own, other, score, same, alone, metrics: Study.metrics(score), records: yield* Study.records(score) }
  })

const near = (actual: { readonly [name: string]: number }, expected: { readonly [name: string]: number }) => {
  assert.deepStrictEqual(Object.keys(actual).toSorted(), Object.keys(expected).toSorted())
  for (const [name, value] of Object.entries(expected)) {
    assert.isAtMost(
      Math.abs(actual[name]! - value),
      5e-5 * Math.max(1, Math.abs(value)),
      `${name}: ${actual[name]}, not ${value}`,
    )
  }
}
/** Against itself a model differs in nothing. */
const agrees = (metrics: { readonly [name: string]: number }) => {
  for (const name of ["kl_mean", "kl_median", "kl_p99", "kl_max", "delta_logprob"])
    assert.strictEqual(metrics[name], 0, name)
  assert.strictEqual(metrics["top1_agreement"], 1)
}
const isOfReference = /^(kl_|top1_|delta_|flips_|same_text)/
const withoutReference = (metrics: { readonly [name: string]: number }) =>
  Object.fromEntries(Object.entries(metrics).filter(([name]) => !isOfReference.test(name)))

const said = (prompt: string, model: Slow.Model) => Slow.generate(model, prompt.trimEnd(), [], 2)
const best = (values: ReadonlyArray<number>) => values.indexOf(Math.max(...values))

layer(services, { excludeTestServices: true })("evaluate", (it) => {
  it.effect("perplexity", () =>
    Effect.gen(function* () {
      const text = "the cat sat on the mat. Q: 1+1=?\nA: 2. there is nothing the dog has not done, or so."
      const { alone, metrics, other, own, same, score } = yield* prepare(
        "kind: perplexity\nwindow: 16\nstride: 16\nbos: true",
        text,
      )
      // Fifteen tokens of text and BOS in each window; what is left over is dropped.
      const ids = encode(text)
      const windows = Array.from({ length: Math.floor(ids.length / 15) }, (_, i) => ids.slice(15 * i, 15 * i + 15))
      const scored = windows.flatMap((window) => Slow.tokens(own, other, window))
      const sums = windows.map((window) =>
        Slow.tokens(own, other, window).reduce((sum, token) => sum - token.logprob, 0),
      )
      const nll = sums.reduce((a, b) => a + b, 0) / scored.length
      near(metrics, { perplexity: Math.exp(nll), nll, ...Slow.divergence(scored) })
      assert.strictEqual(score.metrics[0]!.n, scored.length)
      // All windows hold as many tokens: the error of the mean is that of the windows' means.
      const means = sums.map((sum) => sum / 15)
      const spread = Math.sqrt(means.reduce((sum, x) => sum + (x - nll) ** 2, 0) / (means.length - 1) / means.length)
      assert.approximately(score.metrics[1]!.stderr!, spread, 1e-4)
      agrees(Study.metrics(same))
      assert.deepStrictEqual(Study.metrics(alone), withoutReference(metrics))
      assert.strictEqual(score.effectiveBits, 16)
    }),
  )

  it.effect("cloze", () =>
    Effect.gen(function* () {
      const prompts = ["the dog sat on", "a cat is ", "Q: 1+1=", "no one knows the", "it was", "so the"]
      // The first two targets are what the models would say.
      const { config, weights } = yield* open(Golden.path("biases"))
      const reference = yield* open(Golden.path("mha"))
      const targets = [
        said(prompts[0]!, { config, weights }),
        said(prompts[1]!, { config, weights }).replace(/^/, "x"),
        " 2",
        " end",
        said(prompts[4]!, reference),
        "re is",
      ]
      const items = prompts.map((prompt, i) => ({ prompt, target: targets[i]!, half: i % 2 }))
      const { alone, metrics, other, own, records, same } = yield* prepare(
        `kind: cloze\nprompt: "{prompt}"\ntarget: "{target}"\ngroup: "{half}"`,
        items,
      )
      const tokens = items.map(({ prompt, target }) => Slow.continuation(own, other, prompt, target))
      const right = tokens.map((list) => list.every(({ greedy, target }) => greedy === target))
      const was = tokens.map((list) => list.every(({ referenceGreedy, target }) => referenceGreedy === target))
      assert.isTrue(right.includes(true) && right.includes(false) && was.includes(true) && was.includes(false))
      const half = (h: number) => Slow.mean(right.map(Number).filter((_, i) => i % 2 === h))
      const sums = tokens.map((list) => list.reduce((sum, { logprob }) => sum + logprob, 0))
      near(metrics, {
        acc: Slow.mean(right.map(Number)),
        "acc[half=0]": half(0),
        "acc[half=1]": half(1),
        target_perplexity: Math.exp(-Slow.mean(sums)),
        ...Slow.flips(right, was),
        ...Slow.divergence(tokens.flat()),
      })
      assert.deepStrictEqual(
        records.map(({ right }) => right),
        right,
      )
      assert.deepStrictEqual(
        records.map(({ referenceRight }) => referenceRight),
        was,
      )
      records.forEach(({ logprob }, i) => assert.approximately(logprob, sums[i]!, 1e-3))
      agrees(Study.metrics(same))
      assert.deepInclude(Study.metrics(same), { flips_to_wrong: 0, flips_to_right: 0 })
      assert.deepStrictEqual(Study.metrics(alone), withoutReference(metrics))
    }),
  )

  it.effect("choice", () =>
    Effect.gen(function* () {
      const questions = ["the dog", "a cat is", "Q: 1+1=?\nA:", "so it", "who", "when the"]
      const items = questions.map((question, i) => ({ question, label: i % 3, kind: i < 2 ? "a" : "b" }))
      const choices = [" sat", " was the best of all", " not"]
      const { alone, metrics, other, own, records, same, score } = yield* prepare(
        `kind: choice\nprompt: "{question}"\nchoices: ${JSON.stringify(choices)}\nanswer: "{label}"\ngroup: "{kind}"\nchance: 0.33`,
        items,
      )
      const tokens = items.map(({ question }) =>
        choices.map((choice) => Slow.continuation(own, other, question, choice)),
      )
      const read = (of: "logprob" | "referenceLogprob") => {
        const sums = tokens.map((item) => item.map((list) => list.reduce((sum, token) => sum + token[of], 0)))
        return {
          sums,
          right: sums.map((item, i) => best(item) === items[i]!.label),
          norm: sums.map((item, i) => best(item.map((sum, c) => sum / (choices[c]!.length - 1))) === items[i]!.label),
          margin: sums.map(
            (item, i) => item[items[i]!.label]! - Math.max(...item.filter((_, c) => c !== items[i]!.label)),
          ),
        }
      }
      const [now, was] = [read("logprob"), read("referenceLogprob")]
      assert.notDeepEqual(now.right, now.norm)
      const share = (list: ReadonlyArray<boolean>, kind?: string) =>
        Slow.mean(list.map(Number).filter((_, i) => kind === undefined || items[i]!.kind === kind))
      near(metrics, {
        acc: share(now.right),
        "acc[kind=a]": share(now.right, "a"),
        "acc[kind=b]": share(now.right, "b"),
        acc_norm: share(now.norm),
        "acc_norm[kind=a]": share(now.norm, "a"),
        "acc_norm[kind=b]": share(now.norm, "b"),
        margin: Slow.mean(now.margin),
        ...Slow.flips(now.right, was.right),
        ...Slow.divergence(tokens.flat(2)),
      })
      assert.isTrue(score.metrics.filter(({ name }) => name.startsWith("acc")).every(({ chance }) => chance === 0.33))
      records.forEach((record, i) => {
        assert.approximately(record.margin, now.margin[i]!, 1e-3)
        assert.approximately(record.referenceMargin, was.margin[i]!, 1e-3)
        assert.strictEqual(record.right, now.right[i])
      })
      agrees(Study.metrics(same))
      assert.deepStrictEqual(Study.metrics(alone), withoutReference(metrics))
    }),
  )
})
