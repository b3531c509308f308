/** Tasks asked in the model's own chat template: what the model is given, where templates come from, what is refused. */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { Pool } from "../../src/compute/Pool.ts"
import * as ChatTemplate from "../../src/data/ChatTemplate.ts"
import { Store } from "../../src/engine/store/Store.ts"
import chatglm from "../../src/models/chatglm.ts"
import { folder, write } from "../support/folder.ts"
import * as Golden from "../support/golden.ts"
import { open } from "../support/slow.ts"
import * as Slow from "../support/slowTasks.ts"
import * as Study from "../support/study.ts"
import * as Tokenizer from "../support/tokenizer.ts"

const services = Layer.merge(Pool.layer(2), Store.layerMemory)
const HEAD = `version: 1\ndescription: a test\ndata: { source: "file:items.jsonl" }\n`
const GENERATE = `kind: generate\n${HEAD}prompt: "{prompt}"\nanswer: "x"\nfollow_up: [{ prompt: "{next}", answer: "x" }]\nstop: ["."]\nmax_tokens: 6\n`
const CHOICE = `kind: choice\n${HEAD}prompt: "{prompt}"\nchoices: [" a", " the b"]\nanswer: "0"\n`
const CLOZE = `kind: cloze\n${HEAD}prompt: "{prompt}"\ntarget: " the end"\n`
const WINDOWS = `kind: perplexity\n${HEAD}window: 16\nstride: 16\nbos: true\n`
const ITEMS = [
  { prompt: "the dog", next: "and the cat?" },
  { prompt: "why", next: "so" },
  { prompt: "what is 1+1?", next: "and 2?" },
]

/** Turns marked in a way that the plain prompts are not; without words of its own where there is no system. */
const MARKED = `{{ bos_token }}{% for m in messages %}{{ {'system': 'S', 'user': 'Q', 'assistant': 'A'}[m.role] ~ ':' ~ m.content ~ '\\n' }}{% endfor %}{% if add_generation_prompt %}A:{% endif %}`
/** The same, worked out by hand, without the beginning of the sequence. */
const marked = (turns: ReadonlyArray<readonly ["S" | "Q" | "A", string]>) =>
  `${turns.map(([who, what]) => `${who}:${what}\n`).join("")}A:`

const prepare = (task: string, files: { readonly [name: string]: string } = {}) =>
  Effect.map(folder, (root) => {
    Golden.copy("biases", root)
    write(root, "items.jsonl", ITEMS.map((item) => JSON.stringify(item)).join("\n"))
    write(root, "task.yaml", task)
    for (const [name, text] of Object.entries(files)) write(root, name, text)
    return root
  })
const study = (settings: string, load = "") =>
  `base: { use: load, source: "dir:model"${load} }\nscore: { use: evaluate, model: $base, task: ./task.yaml${settings} }`
const records = (root: string, settings: string, load = "") =>
  Effect.gen(function* () {
    const result = yield* Study.run(root, study(settings, load))
    assert.deepStrictEqual(result.failures, {})
    return yield* Study.records(yield* Study.scores(result, "score"))
  })
const said = (all: ReadonlyArray<any>): ReadonlyArray<ReadonlyArray<string>> =>
  all.map(({ turns }) => turns.map((turn: { said: string }) => turn.said))

const TEMPLATE = { "model/chat_template.jinja": MARKED, "model/tokenizer_config.json": `{"bos_token": "<s>"}` }

layer(services, { excludeTestServices: true })("a chat", (it) => {
  it.effect("of two turns, with and without a system", () =>
    Effect.gen(function* () {
      const model = yield* open(Golden.path("biases"))
      const root = yield* prepare(GENERATE, TEMPLATE)
      const talk = (begin: ReadonlyArray<readonly ["S", string]>) =>
        ITEMS.map(({ next, prompt }) => {
          const first = Slow.generate(model, marked([...begin, ["Q", prompt]]), ["."], 6)
          const turns = [...begin, ["Q", prompt], ["A", first], ["Q", next]] as const
          return [first, Slow.generate(model, marked(turns), ["."], 6)]
        })
      assert.deepStrictEqual(said(yield* records(root, ", chat: true")), talk([]))
      const system = talk([["S", "be kind"]])
      assert.deepStrictEqual(said(yield* records(root, ", chat: { system: be kind }")), system)
      assert.notDeepEqual(system, talk([]))
      const plain = ITEMS.map(({ next, prompt }) => {
        const first = Slow.generate(model, prompt, ["."], 6)
        return [first, Slow.generate(model, prompt + first + next, ["."], 6)]
      })
      assert.deepStrictEqual(said(yield* records(root, ", chat: false")), plain)
      assert.notDeepEqual(plain, talk([]))
    }),
  )

  it.effect("is the task's own way to ask, unless the study says otherwise", () =>
    Effect.gen(function* () {
      const root = yield* prepare(`${GENERATE}chat: { system: so }\n`, TEMPLATE)
      const own = said(yield* records(root, ""))
      assert.deepStrictEqual(own, said(yield* records(root, ", chat: { system: so }")))
      assert.notDeepEqual(own, said(yield* records(root, ", chat: true")))
    }),
  )

  it.effect("before choices and targets", () =>
    Effect.gen(function* () {
      const model = yield* open(Golden.path("biases"))
      const sum = (prompt: string, text: string) =>
        Slow.continuation(model, model, marked([["Q", prompt]]), text).reduce((n, { logprob }) => n + logprob, 0)
      const near = (actual: number, expected: number) => assert.closeTo(actual, expected, 1e-4)
      const choice = yield* records(yield* prepare(CHOICE, TEMPLATE), ", chat: true")
      choice.forEach(({ logprobs }, i) => {
        // A template ends where the answer begins, without the space that follows a plain prompt.
        near(logprobs[0], sum(ITEMS[i]!.prompt, "a"))
        near(logprobs[1], sum(ITEMS[i]!.prompt, "the b"))
      })
      const cloze = yield* records(yield* prepare(CLOZE, TEMPLATE), ", chat: true")
      cloze.forEach(({ logprob }, i) => near(logprob, sum(ITEMS[i]!.prompt, "the end")))
      const plain = yield* records(yield* prepare(CLOZE, TEMPLATE), "")
      assert.notStrictEqual(plain[0].logprob, cloze[0].logprob)
    }),
  )

  it.effect("in the template of the study, of a file, or of tokenizer_config.json by name", () =>
    Effect.gen(function* () {
      const list = [
        { name: "default", template: "{{ bos_token }}X:{{ messages[0].content }}" },
        { name: "marked", template: MARKED },
      ]
      const config = JSON.stringify({ bos_token: "<s>", chat_template: list })
      const named = yield* prepare(GENERATE, { "model/tokenizer_config.json": config })
      const byName = said(yield* records(named, ", chat: { template: marked }"))
      assert.notDeepEqual(byName, said(yield* records(named, ", chat: true")))
      assert.deepStrictEqual(said(yield* records(yield* prepare(GENERATE, TEMPLATE), ", chat: true")), byName)
      const both = { ...TEMPLATE, "model/tokenizer_config.json": config }
      assert.deepStrictEqual(said(yield* records(yield* prepare(GENERATE, both), ", chat: true")), byName)
      const given = yield* prepare(GENERATE, { "model/tokenizer_config.json": config, "own.jinja": MARKED })
      const load = ", chat_template: ./own.jinja"
      assert.deepStrictEqual(said(yield* records(given, ", chat: true", load)), byName)
    }),
  )

  it.effect("on a fixed date", () =>
    Effect.gen(function* () {
      const dated = MARKED.replace("{{ bos_token }}", "{{ bos_token }}{{ strftime_now('%-d:%-m\\n') }}")
      const model = yield* open(Golden.path("biases"))
      const all = yield* records(
        yield* prepare(GENERATE, { ...TEMPLATE, "model/chat_template.jinja": dated }),
        ", chat: { date: 2024-07-26 }",
      )
      const first = ITEMS.map(({ prompt }) => Slow.generate(model, `26:7\n${marked([["Q", prompt]])}`, ["."], 6))
      assert.deepStrictEqual(
        said(all).map(([turn]) => turn),
        first,
      )
    }),
  )

  it.effect("ends where generation_config.json says that a text ends", () =>
    Effect.gen(function* () {
      const free = said(yield* records(yield* prepare(GENERATE, TEMPLATE), ", chat: true"))
      const [first] = Tokenizer.encode(free[0]![0]!)
      const ends = { "model/generation_config.json": JSON.stringify({ eos_token_id: [2, first] }) }
      const ended = said(yield* records(yield* prepare(GENERATE, { ...TEMPLATE, ...ends }), ", chat: true"))
      assert.strictEqual(ended[0]![0], "")
      assert.notStrictEqual(free[0]![0], "")
    }),
  )

  it.effect("a changed template computes anew what is asked in it, and nothing else", () =>
    Effect.gen(function* () {
      const root = yield* prepare(GENERATE, TEMPLATE)
      const count = (settings: string) => Study.counting(records(root, settings))
      const plain = yield* count("")
      const chat = yield* count(", chat: true")
      assert.isAbove(chat.units["continuations"] ?? 0, 0)
      write(root, "model/chat_template.jinja", MARKED.replace("'Q'", "'U'"))
      const again = yield* count("")
      assert.strictEqual(again.units["continuations"] ?? 0, 0)
      assert.deepStrictEqual(again.value, plain.value)
      const other = yield* count(", chat: true")
      assert.isAbove(other.units["continuations"] ?? 0, 0)
      assert.notDeepEqual(other.value, chat.value)
    }).pipe(Effect.provide(Layer.fresh(Store.layerMemory))),
  )

  const refused: ReadonlyArray<
    readonly [what: string, task: string, files: { readonly [name: string]: string }, settings: string, message: RegExp]
  > = [
    [
      "no template",
      GENERATE,
      {},
      ", chat: true",
      /study\.yaml:4:\d+: \.\/task\.yaml asks in the model's chat template, and the checkpoint has no chat template: neither chat_template\.jinja nor chat_template in tokenizer_config\.json; load takes one as chat_template: \.\/file\.jinja/,
    ],
    [
      "none of that name",
      GENERATE,
      TEMPLATE,
      ", chat: { template: tools }",
      /no chat template "tools"; it has default/,
    ],
    [
      "no template that is one",
      GENERATE,
      { "model/chat_template.jinja": "{% if %}" },
      ", chat: true",
      /cannot be read/,
    ],
    [
      "a declaration that is none",
      GENERATE,
      { "model/tokenizer_config.json": `{"chat_template": 7}` },
      "",
      /study\.yaml:3:\d+: model\/tokenizer_config\.json: [^]*neither a text nor a list/,
    ],
    [
      "nothing to ask",
      WINDOWS,
      TEMPLATE,
      ", chat: true",
      /'chat' is for tasks that have prompts; \.\/task\.yaml is of kind perplexity/,
    ],
    [
      "a template that has no place for a system",
      GENERATE,
      {
        "model/chat_template.jinja": `{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x`,
      },
      ", chat: { system: so }",
      /study\.yaml:4:\d+: [^]*the chat template refuses the conversation: no system/,
    ],
    [
      "a template that asks for today's date",
      GENERATE,
      { "model/chat_template.jinja": "{{ strftime_now('%d %b %Y') }}" },
      ", chat: true",
      /study\.yaml:4:\d+: [^]*it asks for today's date, which is given as chat: \{ date: YYYY-MM-DD \}/,
    ],
    ["a date that is none", GENERATE, TEMPLATE, ", chat: { date: 2024-13-01 }", /study\.yaml:4:\d+: [^]*YYYY-MM-DD/],
    [
      "a BOS that would do nothing",
      GENERATE,
      TEMPLATE,
      ", chat: true, bos: true",
      /study\.yaml:4:\d+: 'bos' is for prompts/,
    ],
    [
      "a BOS of the task that would do nothing",
      `${GENERATE}bos: false\n`,
      TEMPLATE,
      ", chat: true",
      /'bos' is for prompts/,
    ],
    [
      "a misspelt setting",
      GENERATE,
      TEMPLATE,
      ", chat: { sistem: so }",
      /study\.yaml:4:\d+: unknown key 'sistem'; did you mean 'system'\?/,
    ],
  ]
  it.effect.each(refused)("with %s is refused before anything runs", ([, task, files, settings, message]) =>
    Effect.gen(function* () {
      assert.match(yield* Study.mistakes(yield* prepare(task, files), study(settings)), message)
    }),
  )
  it.effect("with a template file that is not there is refused", () =>
    Effect.gen(function* () {
      const root = yield* prepare(GENERATE)
      const mistakes = yield* Study.mistakes(root, study(", chat: true", ", chat_template: ./none.jinja"))
      assert.match(mistakes, /study\.yaml:3:\d+: [^]*none\.jinja' does not exist/)
    }),
  )
  it.effect("that the template refuses names the item", () =>
    Effect.gen(function* () {
      const picky = `{% if 'why' in messages[0].content %}{{ raise_exception('no questions') }}{% endif %}x`
      const root = yield* prepare(GENERATE, { "model/chat_template.jinja": picky })
      const failure = yield* Study.failure(root, study(", chat: true"), "score")
      assert.match(failure, /item 1: the chat template refuses the conversation: no questions/)
    }),
  )
})

describe("ChatGLM's own prompts", () => {
  const conversation = ["1", "2", "3"].map((content, i) => ({ role: i === 1 ? "assistant" : "user", content }))
  const text = (name: string, changes: object = {}) => {
    const file = join(import.meta.dirname, "../golden/families/chatglm", name, "config.json")
    const config = Schema.decodeUnknownSync(chatglm.config)({ ...JSON.parse(readFileSync(file, "utf8")), ...changes })
    const template = chatglm.chatTemplate!(config)
    return template === undefined
      ? Effect.succeed(undefined)
      : ChatTemplate.render(template, { messages: conversation, add_generation_prompt: true })
  }
  it.effect("number the rounds in ChatGLM2, name the roles in ChatGLM3, and are unknown elsewhere", () =>
    Effect.gen(function* () {
      const rounds = "[gMASK]sop[Round 1]\n\n问：1\n\n答：2\n\n[Round 2]\n\n问：3\n\n答："
      assert.strictEqual(yield* text("chatglm2"), rounds)
      assert.strictEqual(yield* text("chatglm2-32k"), rounds)
      const roles = "[gMASK]sop<|user|>\n 1<|assistant|>\n 2<|user|>\n 3<|assistant|>"
      assert.strictEqual(yield* text("biases"), roles)
      assert.strictEqual(yield* text("biases", { _name_or_path: "somebody/glm" }), undefined)
    }),
  )
})
