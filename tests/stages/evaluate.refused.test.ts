/** What `evaluate` and `calibrate` refuse: tasks, settings and data that cannot be scored. */
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Pool } from "../../src/compute/Pool.ts"
import { Store } from "../../src/engine/store/Store.ts"
import { folder, write } from "../support/folder.ts"
import * as Golden from "../support/golden.ts"
import * as Study from "../support/study.ts"

const services = Layer.merge(Pool.layer(2), Store.layerMemory)
const HEAD = `version: 1\ndescription: a test\ndata: { source: "file:items.jsonl" }\n`
const LOAD = `base: { use: load, source: "dir:model" }\n`
const score = (settings: string) => `${LOAD}score: { use: evaluate, model: $base, ${settings} }`
const seen = (settings: string) =>
  `${LOAD}seen: { use: calibrate, model: $base, sequences: 1, length: 32, ${settings} }`
const ROWS = `{"text": "the cat", "answer": "0", "list": [" a", " b"]}`

const prepare = (files: { readonly [name: string]: string }) =>
  Effect.map(folder, (root) => {
    Golden.copy("biases", root)
    for (const [name, text] of Object.entries({ "items.jsonl": ROWS, ...files })) write(root, name, text)
    return root
  })

const CLOZE = `kind: cloze\n${HEAD}prompt: "{text}"\ntarget: " b"\n`
const CHOICE = `kind: choice\n${HEAD}prompt: "{text}"\nchoices: "{list}"\nanswer: "{answer}"\n`
const WINDOWS = `kind: perplexity\n${HEAD}window: 16\nstride: 16\nbos: true\n`
const GENERATE = `kind: generate\n${HEAD}prompt: "{text}"\nanswer: "x"\nstop: []\nmax_tokens: 4\n`

/** Before anything runs; the stage is on line 4 of the study. */
const REFUSED: ReadonlyArray<readonly [name: string, task: string, settings: string, RegExp]> = [
  ["an unknown key", `${CLOZE}targt: x\n`, "", /task\.yaml:7:\d+: [^]*targt/],
  ["a missing key", CLOZE.replace(/target.*\n/, ""), "", /task\.yaml:\d+:\d+: Missing key[^]*target/],
  [
    "a value of the wrong type",
    WINDOWS.replace("window: 16", "window: many"),
    "",
    /task\.yaml:5:9: Expected number[^]*window/,
  ],
  ["a value out of range", WINDOWS.replace("window: 16", "window: 1"), "", /task\.yaml:5:9: [^]*window/],
  ["a pattern that is none", `${GENERATE}extract: "("\n`, "", /task\.yaml:9:10: not a regular expression/],
  ["a YAML error", `kind: [\n`, "", /task\.yaml:\d+:\d+: /],
  ["a list instead of a task", "- kind", "", /task\.yaml:1:1: expected a mapping with kind, version/],
  [
    "an alias bomb",
    `a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nkind: [*c, *c, *c]\n`,
    "",
    /task\.yaml:1:1: Excessive alias count/,
  ],
  ["an unknown kind", CLOZE.replace("cloze", "clzoe"), "", /no task 'clzoe'; did you mean 'cloze'\?/],
  ["data that is not there", CLOZE.replace("items", "itmes"), "", /task\.yaml: 'file:itmes\.jsonl' does not exist/],
  [
    "a setting of another kind",
    WINDOWS,
    ", temperature: 0.5",
    /4:\d+: 'temperature' is for tasks that generate; \.\/task\.yaml is of kind perplexity/,
  ],
  [
    "windows beyond the model's positions",
    WINDOWS.replace("window: 16", "window: 500"),
    "",
    /needs sequences of 500 tokens; the model's positions end at 128/,
  ],
]

layer(services, { excludeTestServices: true })("before anything runs", (it) => {
  for (const [name, task, settings, message] of REFUSED) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const root = yield* prepare({ "task.yaml": task })
        const found = yield* Study.mistakes(root, score(`task: ./task.yaml${settings}`))
        assert.match(found, message)
        assert.match(found, /^study\.yaml:4:\d+: /)
      }),
    )
  }
  it.effect("an unknown task", () =>
    Effect.gen(function* () {
      const found = yield* Study.mistakes(yield* prepare({}), score("task: tiny-prsoe"))
      assert.match(found, /^study\.yaml:4:47: no task 'tiny-prsoe'; did you mean 'tiny-prose'/)
    }),
  )
  it.effect("a folder for a task", () =>
    Effect.gen(function* () {
      const found = yield* Study.mistakes(yield* prepare({ "tasks/x": "" }), score("task: ./tasks"))
      assert.match(found, /tasks: cannot be read: EISDIR/)
    }),
  )
  it.effect("a reference with another vocabulary", () =>
    Effect.gen(function* () {
      const root = yield* prepare({ "task.yaml": WINDOWS })
      const found = yield* Study.mistakes(
        root,
        `${score("reference: $tiny, task: ./task.yaml")}\ntiny: { use: load, source: "bundled:tiny" }`,
      )
      assert.match(found, /the reference has \d+ tokens, the model 64; they cannot be compared token by token/)
    }),
  )
  for (const [name, settings, message] of [
    ["neither text nor task", "sequences: 1, length: 8", /give either text or task/],
    ["both text and task", "text: items.jsonl, task: ./task.yaml, sequences: 1, length: 8", /give either text or task/],
    [
      "sequences beyond the model's positions",
      "text: items.jsonl, sequences: 1, length: 129",
      /4:\d+: sequences of 129 tokens; the model's positions end at 128/,
    ],
  ] as const) {
    it.effect(`calibrate: ${name}`, () =>
      Effect.gen(function* () {
        const root = yield* prepare({ "task.yaml": WINDOWS })
        assert.match(yield* Study.mistakes(root, `${LOAD}seen: { use: calibrate, model: $base, ${settings} }`), message)
      }),
    )
  }
})

/** While it runs: the data is read only then. */
const FAILS: ReadonlyArray<readonly [name: string, task: string, rows: string, RegExp]> = [
  [
    "a text shorter than a window",
    WINDOWS,
    ROWS,
    /no text fills one window: the longest has 5 tokens, a window holds 15/,
  ],
  [
    "an item longer than the model's positions",
    CLOZE,
    `${ROWS}\n{"text": "${"a".repeat(130)}"}`,
    /item 1 is 133 tokens long; the model's positions end at 128/,
  ],
  [
    "a question longer than the model's positions",
    CHOICE,
    `${ROWS}\n${ROWS}\n{"text": "${"a".repeat(130)}", "answer": 0, "list": [" a", " b"]}`,
    /item 2 is 133 tokens long/,
  ],
  [
    "a prompt that leaves no room for an answer",
    GENERATE,
    `{"text": "${"a".repeat(125)}"}`,
    /item 0 is 126 tokens long and 4 are to be generated; the model's positions end at 128/,
  ],
  ["a missing field", CLOZE, `${ROWS}\n{"txt": "x"}`, /item 1 has no text or number text; it has txt/],
  ["a field that is no text", CLOZE, `{"text": [1]}`, /item 0 has no text or number text/],
  [
    "an answer out of range",
    CHOICE,
    ROWS.replace('"0"', "2"),
    /item 0: the answer is '2'; expected an index from 0 to 1/,
  ],
  ["an answer that is no index", CHOICE, ROWS.replace('"0"', '"b"'), /item 0: the answer is 'b'; expected an index/],
  [
    "choices that are no list",
    CHOICE,
    ROWS.replace('[" a", " b"]', '"a"'),
    /item 0: \{list\} is not a list of at least two texts/,
  ],
  ["one choice", CHOICE, ROWS.replace('[" a", " b"]', '[" a"]'), /is not a list of at least two texts/],
  [
    "a continuation that adds no token",
    CHOICE,
    `${ROWS}\n${ROWS.replace('" b"', '""')}`,
    /item 1: "" after the prompt adds no token to score/,
  ],
  ["a line that is no JSON", CLOZE, `${ROWS}\n{"text": `, /items\.jsonl: line 2 is not JSON/],
  ["a line that is no object", CLOZE, `${ROWS}\n\n3`, /items\.jsonl: line 3 is not a JSON object/],
  ["a key given twice", CLOZE, `{"text": "a", "text": "b"}`, /items\.jsonl: line 1 names "text" twice/],
  ["no items", CLOZE, "\n", /items\.jsonl: holds no items/],
]

layer(services, { excludeTestServices: true })("while it runs", (it) => {
  for (const [name, task, rows, message] of FAILS) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const root = yield* prepare({ "task.yaml": task, "items.jsonl": rows })
        assert.match(yield* Study.failure(root, score("task: ./task.yaml"), "score"), message)
      }),
    )
  }
  describe("other data", () => {
    for (const [name, file, text, message] of [
      ["a CSV line with too many fields", "items.csv", "text,answer\na,b\nc,d,e\n", /items\.csv: .*line 3/],
      ["a JSON object instead of an array", "items.json", "{}", /items\.json: is not an array of JSON objects/],
      [
        "an unknown kind of file",
        "items.xlsx",
        "PK",
        /items\.xlsx: unknown kind of file; expected \.jsonl, \.json, \.csv, \.txt, \.parquet/,
      ],
    ] as const) {
      it.effect(name, () =>
        Effect.gen(function* () {
          const root = yield* prepare({ "task.yaml": CLOZE.replace("items.jsonl", file), [file]: text })
          assert.match(yield* Study.failure(root, score("task: ./task.yaml"), "score"), message)
        }),
      )
    }
    it.effect("calibration text shorter than one sequence, and rows without the field", () =>
      Effect.gen(function* () {
        const root = yield* prepare({ "t.txt": "the cat" })
        assert.match(
          yield* Study.failure(root, seen("text: t.txt"), "seen"),
          /t\.txt has 5 tokens, fewer than one sequence of 31; use more text or a smaller length/,
        )
        assert.match(
          yield* Study.failure(root, seen("text: items.jsonl, field: txt"), "seen"),
          /item 0 has no text 'txt'; it has text, answer, list; say which with field/,
        )
      }),
    )
    it.effect("a model whose numbers overflow", () =>
      Effect.gen(function* () {
        const huge = new Uint8Array(Float32Array.from({ length: 32 }, () => 3e38).buffer)
        const root = yield* Golden.changed("biases", {
          tensors: (tensors) => ({ ...tensors, "model.norm.weight": { dtype: "F32", shape: [32], data: huge } }),
          files: { "task.yaml": CLOZE, "items.jsonl": ROWS },
        })
        assert.match(
          yield* Study.failure(root, score("task: ./task.yaml"), "score"),
          /the model's logits are not numbers/,
        )
      }),
    )
  })
})
