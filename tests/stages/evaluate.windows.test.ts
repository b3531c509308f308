/** The windows of perplexity: exactly which tokens are fed, and which are scored. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Request } from "../../src/compute/Scoring.ts"
import type { Subject } from "../../src/tasks/Scorer.ts"
import perplexity, { windows } from "../../src/tasks/perplexity.ts"

const text = (length: number) => Int32Array.from({ length }, (_, i) => i + 10)
type Task = Parameters<typeof windows>[1]
const plain: Task = { window: 4, stride: 4, bos: false, scored: "new", tail: "drop" }
const BOS = 1
const shown = (requests: ReadonlyArray<Request>) => requests.map(({ from, tokens }) => [[...tokens], from] as const)

describe("windows", () => {
  const cases: ReadonlyArray<readonly [string, Task, number, ReturnType<typeof shown>]> = [
    [
      "side by side",
      plain,
      9,
      [
        [[10, 11, 12, 13], 1],
        [[14, 15, 16, 17], 1],
      ],
    ],
    [
      "the tail kept",
      { ...plain, tail: "keep" },
      10,
      [
        [[10, 11, 12, 13], 1],
        [[14, 15, 16, 17], 1],
        [[18, 19], 1],
      ],
    ],
    // A last token alone has nothing before it.
    [
      "a tail of one token",
      { ...plain, tail: "keep" },
      9,
      [
        [[10, 11, 12, 13], 1],
        [[14, 15, 16, 17], 1],
      ],
    ],
    [
      "a text that ends with a window",
      { ...plain, tail: "keep" },
      8,
      [
        [[10, 11, 12, 13], 1],
        [[14, 15, 16, 17], 1],
      ],
    ],
    [
      "with BOS, which the window holds",
      { ...plain, bos: true },
      7,
      [
        [[BOS, 10, 11, 12], 1],
        [[BOS, 13, 14, 15], 1],
      ],
    ],
    [
      "with BOS, a tail of one token counts",
      { ...plain, bos: true, tail: "keep" },
      4,
      [
        [[BOS, 10, 11, 12], 1],
        [[BOS, 13], 1],
      ],
    ],
    [
      "overlapping: only what is new",
      { ...plain, stride: 2 },
      8,
      [
        [[10, 11, 12, 13], 1],
        [[12, 13, 14, 15], 2],
        [[14, 15, 16, 17], 2],
      ],
    ],
    [
      "overlapping with BOS",
      { ...plain, bos: true, stride: 1 },
      5,
      [
        [[BOS, 10, 11, 12], 1],
        [[BOS, 11, 12, 13], 3],
        [[BOS, 12, 13, 14], 3],
      ],
    ],
    [
      "overlapping, the tail kept",
      { ...plain, stride: 3, tail: "keep" },
      8,
      [
        [[10, 11, 12, 13], 1],
        [[13, 14, 15, 16], 1],
        [[16, 17], 1],
      ],
    ],
    [
      "a stride beyond the window is the window",
      { ...plain, bos: true, stride: 9 },
      6,
      [
        [[BOS, 10, 11, 12], 1],
        [[BOS, 13, 14, 15], 1],
      ],
    ],
    [
      "the second half",
      { ...plain, scored: "second-half" },
      8,
      [
        [[10, 11, 12, 13], 2],
        [[14, 15, 16, 17], 2],
      ],
    ],
    ["the second half with BOS", { ...plain, bos: true, scored: "second-half" }, 3, [[[BOS, 10, 11, 12], 2]]],
    ["no window is full", plain, 3, []],
    ["no window is full, but kept", { ...plain, tail: "keep" }, 3, [[[10, 11, 12], 1]]],
    ["nothing to predict", { ...plain, tail: "keep" }, 1, []],
    ["nothing at all", { ...plain, tail: "keep", bos: true }, 0, []],
  ]
  for (const [name, task, length, expected] of cases) {
    it(name, () => assert.deepStrictEqual(shown(windows(text(length), task, task.bos ? [BOS] : [])), expected))
  }

  it("each token of the text is scored once, given all that its window holds before it", () => {
    for (const bos of [false, true]) {
      for (const window of [2, 5, 8]) {
        for (const stride of [1, 3, 8, 20]) {
          for (const length of [1, 5, 8, 9, 23, 24]) {
            const requests = windows(
              text(length),
              { window, stride, bos, scored: "new", tail: "keep" },
              bos ? [BOS] : [],
            )
            const scored = requests.flatMap(({ from, tokens }) => [...tokens.subarray(from)])
            // Without BOS nothing stands before the first token of a window that begins anew.
            const missing = [...text(length)].filter((token) => !scored.includes(token))
            const starts =
              requests.length > 0 && !bos ? missing.filter((token) => token !== 10 && (token - 10) % window !== 0) : []
            assert.deepStrictEqual(bos ? missing : starts, [], JSON.stringify({ bos, window, stride, length }))
            assert.strictEqual(new Set(scored).size, scored.length)
            for (const { tokens } of requests) assert.isAtMost(tokens.length, window)
          }
        }
      }
    }
  })
})

/** A model of which every token costs `nats`. */
const uniform = (lead: ReadonlyArray<number>, nats: number): Subject<never, never> => ({
  lead: (bos) => (bos === true ? lead : []),
  hasReference: false,
  encode: (texts) => Effect.succeed(texts.map((it) => text(it.length))),
  score: (requests) => {
    const n = requests.reduce((sum, { from, tokens }) => sum + tokens.length - from, 0)
    return Effect.succeed({ logprob: new Float32Array(n).fill(-nats), greedy: new Int32Array(n), reference: undefined })
  },
  render: () => Effect.die("perplexity asks nothing"),
  generate: () => Effect.die("perplexity generates nothing"),
})

const run = (task: Task, texts: ReadonlyArray<unknown>, subject: Subject<never, never>) =>
  perplexity.run(
    task,
    texts.map((text) => ({ text })),
    subject,
  )

describe("perplexity", () => {
  it.effect("is exp of the mean per token; texts are windowed one by one", () =>
    Effect.gen(function* () {
      const { metrics, records } = yield* run({ ...plain, tail: "keep" }, ["xxxxxx", "xxxx"], uniform([], Math.log(7)))
      assert.deepStrictEqual(
        records.map(({ tokens }) => tokens),
        [3, 1, 3],
      )
      assert.deepInclude(metrics[0]!, { name: "perplexity", n: 7, better: "lower", primary: true })
      assert.approximately(metrics[0]!.value, 7, 1e-5)
      assert.approximately(metrics[1]!.value, Math.log(7), 1e-6)
      assert.approximately(metrics[0]!.stderr!, 0, 1e-5)
    }),
  )
  it.effect("stays finite where the model is hopeless", () =>
    Effect.gen(function* () {
      const { metrics } = yield* run(plain, ["xxxx"], uniform([], 1e4))
      assert.strictEqual(metrics[0]!.value, Number.MAX_VALUE)
      assert.approximately(metrics[1]!.value, 1e4, 1)
    }),
  )
  for (const [name, task, texts, bos, message] of [
    ["no BOS to begin with", { ...plain, bos: true }, ["xxxx"], [], /has no BOS token; set bos: false/],
    ["rows without text", plain, ["xxxx", 3], [], /perplexity needs text/],
    [
      "texts shorter than a window",
      { ...plain, bos: true },
      ["xx", "x"],
      [BOS],
      /no text fills one window: the longest has 2 tokens, a window holds 3; use a smaller window, more text, or tail: keep/,
    ],
  ] as const) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(run(task, texts, uniform(bos, 1)))
        assert.match(error.message, message)
      }),
    )
  }
})
