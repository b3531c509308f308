/** Log-probabilities, greedy tokens, KL and agreement against the formulas in double. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Runner from "../../src/compute/Runner.ts"
import * as Model from "../../src/compute/Model.ts"
import { Pool } from "../../src/compute/Pool.ts"
import * as Scoring from "../../src/compute/Scoring.ts"
import * as Slab from "../../src/compute/Slab.ts"
import * as Random from "../../src/math/Random.ts"
import * as Score from "../../src/onnx/Score.ts"
import * as Golden from "../support/golden.ts"
import * as Slow from "../support/SlowLlama.ts"
import { open } from "../support/slow.ts"

const TOLERANCE = 2e-5
const near = (actual: number, expected: number, what: string) =>
  assert.isAtMost(
    Math.abs(actual - expected),
    TOLERANCE * Math.max(1, Math.abs(expected)),
    `${what}: ${actual}, ${expected}`,
  )

const random = Random.make(7n)
const requests: ReadonlyArray<Scoring.Request> = [1, 4, 11].map((from) => ({
  tokens: Int32Array.from({ length: 12 }, () => random.below(64)),
  from,
}))
const rowsOf = (model: Model.Model<never>) =>
  Scoring.hiddenRows(Runner.make(model, false), requests, 512, () => Effect.void)

const identity: Score.Head = (_graph, _prefix, hidden) => hidden

layer(Pool.layer(2), { excludeTestServices: true })("scores", (it) => {
  for (const [variant, other] of [
    ["gqa-tied", "gqa-tied"],
    ["biases", "rope-parameters"],
    ["mha", "biases"],
  ] as const) {
    it.effect(`${variant} against ${other}`, () =>
      Effect.gen(function* () {
        const [model, reference] = [yield* Golden.open(variant), yield* Golden.open(other)]
        const {
          greedy,
          logprob,
          reference: was,
        } = yield* Scoring.scoreRows(model, yield* rowsOf(model), Scoring.targets(requests), {
          model: reference,
          rows: yield* rowsOf(reference),
        })
        const own = yield* open(Golden.path(variant))
        // Its rope is linear, which the slow model does not know: positions are divided by the factor.
        const plain = other === "rope-parameters" ? undefined : yield* open(Golden.path(other))
        let row = 0
        for (const { from, tokens } of requests) {
          const logits = Slow.logits(own.config, own.weights, tokens, (_, rows) => rows)
          const others = plain && Slow.logits(plain.config, plain.weights, tokens, (_, rows) => rows)
          for (let t = from; t < tokens.length; t++, row++) {
            const target = tokens[t]!
            near(logprob[row]!, Slow.logprob(logits[t - 1]!, target), `logprob ${row}`)
            assert.strictEqual(greedy[row], Slow.greedy(logits[t - 1]!))
            if (others === undefined) continue
            near(was!.logprob[row]!, Slow.logprob(others[t - 1]!, target), `reference ${row}`)
            near(was!.kl[row]!, Slow.divergence(others[t - 1]!, logits[t - 1]!), `kl ${row}`)
            assert.strictEqual(was!.greedy[row], Slow.greedy(others[t - 1]!))
          }
        }
        assert.strictEqual(row, logprob.length)
        assert.strictEqual(row, Scoring.rowCount(requests))
      }),
    )
  }

  it.effect("a model against itself: no divergence at all", () =>
    Effect.gen(function* () {
      const model = yield* Golden.open("head-dim")
      const rows = yield* rowsOf(model)
      const { greedy, logprob, reference } = yield* Scoring.scoreRows(model, rows, Scoring.targets(requests), {
        model,
        rows,
      })
      assert.deepStrictEqual(reference!.kl, new Float32Array(logprob.length))
      assert.deepStrictEqual(reference!.logprob, logprob)
      assert.deepStrictEqual(reference!.greedy, greedy)
    }),
  )

  it.effect("of equal logits the lowest token is the greedy one; huge logits stay finite", () =>
    Effect.gen(function* () {
      const rows = [
        [0, 3, 3, -1],
        [5, 5, 5, 5],
        [-1e4, 1e4, 0, 1e4],
        [1, 0, 0, 1],
      ]
      const logprob = Slab.make("float32", [4])
      const greedy = Slab.make("int64", [4])
      const targets = [2, 3, 0, 3]
      yield* Model.run(
        Model.program(Score.score(identity, 4, undefined)),
        { hidden: Slab.of([4, 4], Float32Array.from(rows.flat())), targets: Slab.int64s([4], (i) => targets[i]!) },
        { logprob, greedy },
      )
      assert.deepStrictEqual(Array.from(Slab.longs(greedy), Number), [1, 0, 1, 0])
      const expected = [Slow.logprob(rows[0]!, 2), -Math.log(4), -2e4 - Math.log(2), Slow.logprob(rows[3]!, 3)]
      Slab.floats(logprob).forEach((value, i) => near(value, expected[i]!, `row ${i}`))
    }),
  )

  it.effect("one scored token, and more rows than one call of the head takes", () =>
    Effect.gen(function* () {
      const model = yield* Golden.open("biases")
      const many = Array.from({ length: 11 }, () => ({
        tokens: Int32Array.from({ length: 100 }, () => random.below(64)),
        from: 1,
      }))
      const score = (requests: ReadonlyArray<Scoring.Request>) =>
        Effect.flatMap(
          Scoring.hiddenRows(Runner.make(model, false), requests, 2048, () => Effect.void),
          (rows) => Scoring.scoreRows(model, rows, Scoring.targets(requests), undefined),
        )
      // 1089 rows are one call of 1024 and one of 65; 1025 leave a last call of one row.
      for (const count of [1089, 1025]) {
        const cut = many.map((request, i) => ({
          tokens: request.tokens,
          from: i === 10 ? 100 - (count - 990) : request.from,
        }))
        const all = yield* score(cut)
        assert.strictEqual(all.logprob.length, count)
        const last = yield* score([{ tokens: cut[10]!.tokens, from: 99 }])
        assert.deepStrictEqual([...last.logprob], [all.logprob.at(-1)])
        assert.deepStrictEqual([...last.greedy], [all.greedy.at(-1)])
      }
    }),
  )
})
