import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import {
  BadTemplate,
  declared,
  type Message,
  NoTemplate,
  pick,
  Refused,
  render,
  TemplateFailed,
} from "../../src/data/ChatTemplate.ts"
import * as Mix from "./textMix.ts"

const read = (name: string) => JSON.parse(readFileSync(Mix.file(name), "utf8"))
const {
  conversations,
  templates,
}: {
  readonly templates: { readonly [name: string]: string }
  readonly conversations: ReadonlyArray<ReadonlyArray<Message>>
} = read("templates.json")
/** By template: for each conversation the text without and with a prompt; null where the template refuses. */
const rendered: { readonly [name: string]: ReadonlyArray<ReadonlyArray<string | null>> } = read("chat.json")

const draw = (template: string, variables: object = {}) =>
  render(template, { messages: [{ role: "user", content: "hi" }], add_generation_prompt: false, ...variables })

describe("templates render as by transformers", () => {
  it.effect.each(Object.keys(rendered))("%s", (name) =>
    Effect.gen(function* () {
      const special = { bos_token: "<s>", eos_token: "</s>" }
      for (const [index, messages] of conversations.entries()) {
        for (const [prompt, expected] of rendered[name]![index]!.entries()) {
          const variables = { messages, add_generation_prompt: prompt === 1, ...special }
          const got = yield* render(templates[name]!, variables).pipe(
            Effect.catchTag("Refused", () => Effect.succeed(null)),
          )
          assert.strictEqual(got, expected, `conversation ${index}`)
        }
      }
    }),
  )
  it("some refuse", () =>
    assert.isAbove(
      Object.values(rendered)
        .flat(2)
        .filter((text) => text === null).length,
      0,
    ))
})

describe("the templates of a checkpoint", () => {
  const list = [
    { name: "default", template: "a" },
    { name: "tools", template: "b" },
  ]
  it.effect("are a text, or a list of named ones", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* declared("x"), { default: "x" })
      assert.deepStrictEqual(yield* declared(list), { default: "a", tools: "b" })
      assert.deepStrictEqual(yield* declared(undefined), {})
      assert.deepStrictEqual(yield* declared(null), {})
    }),
  )
  it.effect("are picked by name, or say what there is", () =>
    Effect.gen(function* () {
      const templates = yield* declared(list)
      assert.strictEqual(yield* pick(templates), "a")
      assert.strictEqual(yield* pick(templates, "tools"), "b")
      const none = yield* Effect.flip(pick({}))
      assert.match(none.message, /^the checkpoint has no chat template: neither/)
      const other = yield* Effect.flip(pick(templates, "rag"))
      assert.deepStrictEqual(other, new NoTemplate({ name: "rag", known: ["default", "tools"] }))
      assert.match(other.message, /has no chat template "rag"; it has default, tools$/)
      const unnamed = yield* Effect.flip(pick(yield* declared(list.slice(1))))
      assert.match(unnamed.message, /has no default chat template; it has tools$/)
      assert.instanceOf(yield* Effect.flip(pick({ default: "x" }, "constructor")), NoTemplate)
    }),
  )
  it.effect("are refused where they are none", () =>
    Effect.gen(function* () {
      for (const value of [7, {}, ["x"], [{ name: "a" }], [...list, list[0]]]) {
        assert.instanceOf(yield* Effect.flip(declared(value)), BadTemplate)
      }
    }),
  )
})

describe("a template", () => {
  it.effect("that raises an exception refuses, in its own words", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(draw("{{ raise_exception('no ' + messages[0].role) }}"))
      assert.deepStrictEqual(error, new Refused({ reason: "no user" }))
      assert.strictEqual(error.message, "the chat template refuses the conversation: no user")
    }),
  )
  it.effect("that is none cannot be read", () =>
    Effect.gen(function* () {
      for (const template of ["{% if %}", "{{ 'x }}", "{% for %}", "{{ (".repeat(10_000)]) {
        assert.instanceOf(yield* Effect.flip(draw(template)), BadTemplate)
      }
    }),
  )
  it.effect("sees its variables and no clock, no process", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* draw("{{ word }}{% if strftime_now is defined %}!{% endif %}", { word: "x" }), "x")
      for (const template of [
        "{{ messages.constructor.constructor('return process')() }}",
        "{{ ''.constructor.constructor('return 1')() }}",
        "{{ strftime_now('%Y') }}",
        "{{ process.exit(1) }}",
      ]) {
        assert.instanceOf(yield* Effect.flip(draw(template)), TemplateFailed)
      }
    }),
  )
  it.effect("is told a date that is fixed, or none", () =>
    Effect.gen(function* () {
      const at = (format: string, date?: string) =>
        render(`{{ strftime_now('${format}') }}`, { messages: [], add_generation_prompt: true }, date)
      assert.strictEqual(yield* at("%d %b %Y", "2024-07-26"), "26 Jul 2024")
      assert.strictEqual(yield* at("%A, %B %-d (%y-%m), 100%%", "2026-03-05"), "Thursday, March 5 (26-03), 100%")
      const unknown = yield* Effect.flip(at("%Q", "2024-07-26"))
      assert.match(unknown.message, /strftime_now knows nothing of %Q$/)
      const none = yield* Effect.flip(at("%Y"))
      assert.match(none.message, /it asks for today's date, which is given as chat: \{ date: YYYY-MM-DD \}$/)
    }),
  )
  it.effect("finds None where there are no tools and no documents", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* draw("{% if tools is not none or documents is not none %}x{% endif %}y"), "y")
    }),
  )
  const bombs = {
    "a long range": ["{% for i in range(100000000) %}x{% endfor %}", /range\(0, 100000000, 1\) is too long/],
    "a range without end": ["{{ range(0, 9, 0) }}", /range\(0, 9, 0\) is too long/],
    "loops in loops": [
      "{% for i in range(1000) %}{% for j in range(1000) %}{{ j }}{% endfor %}{% endfor %}",
      /more than 500000 steps/,
    ],
    "a text that doubles": [
      "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      /a value longer than 4000000/,
    ],
    "a list that doubles": [
      "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      /a value longer than 4000000/,
    ],
    "a text printed again and again": [
      "{% for i in range(1000) %}{{ long }}{% endfor %}",
      /64000000 characters in all/,
    ],
    "a function that calls itself": ["{% macro f(g) %}{{ g(g) }}{% endmacro %}{{ f(f) }}", /nests too deeply/],
    "what it printed before a break": ["{% for i in range(3) %}{{ i }}{% break %}{% endfor %}", /after having printed/],
    "a list printed": ["{{ messages }}", /prints a value of the type ArrayValue/],
  } as const
  for (const [what, [template, message]] of Object.entries(bombs)) {
    it.effect(`is stopped at ${what}`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(draw(template, { long: "x".repeat(1_000_000) }))
        assert.instanceOf(error, TemplateFailed)
        assert.match(error.message, message)
      }),
    )
  }
})
