import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { matchesGlob } from "node:path/posix"
import * as DataFiles from "../../src/hub/DataFiles.ts"
import type { RepoFile } from "../../src/hub/Digest.ts"

const repository = (names: string): ReadonlyArray<RepoFile> =>
  names.split(" ").map((path) => ({ path, size: 1, digest: { kind: "blob", hex: "0".repeat(40) } }))
const choose = (names: string, readme: string | undefined, config: string | undefined, split: string) =>
  Effect.map(DataFiles.choose("hub-data:acme/rows@main", repository(names), readme, { config, split }), (files) =>
    files.map(({ path }) => path).join(" "),
  )
const refused = (names: string, readme: string | undefined, config: string | undefined, split: string) =>
  Effect.map(Effect.flip(choose(names, readme, config, split)), ({ message }) => message)
const card = (yaml: string) => `---\nlicense: mit\n${yaml}\n---\n# Rows\n`

describe("names", () => {
  const found: ReadonlyArray<readonly [names: string, config: string | undefined, split: string, takes: string]> = [
    ["README.md train.csv test.csv", undefined, "test", "test.csv"],
    ["data/train.jsonl data/test.jsonl", undefined, "train", "data/train.jsonl"],
    [
      "data/train-00001-of-00002.parquet data/train-00000-of-00002.parquet data/test-00000-of-00001.parquet",
      undefined,
      "train",
      "data/train-00000-of-00002.parquet data/train-00001-of-00002.parquet",
    ],
    [
      "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet",
      undefined,
      "train",
      "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet",
    ],
    [
      "ARC-Easy/test-00000-of-00001.parquet ARC-Challenge/test-00000-of-00001.parquet",
      "ARC-Easy",
      "test",
      "ARC-Easy/test-00000-of-00001.parquet",
    ],
    [
      "main/socratic/0000.parquet main/train/0000.parquet main/train/0001.parquet",
      "main",
      "train",
      "main/train/0000.parquet main/train/0001.parquet",
    ],
    ["plain/test.json", undefined, "test", "plain/test.json"],
    ["default/test.json other/test.json", undefined, "test", "default/test.json"],
    ["config.json dataset_infos.json data/test.json", undefined, "test", "data/test.json"],
    [".cache/test.json __MACOSX/test.csv .test.csv data/test.json", undefined, "test", "data/test.json"],
    ["default/partial-train/0000.parquet", undefined, "partial-train", "default/partial-train/0000.parquet"],
  ]
  for (const [names, config, split, takes] of found) {
    it.effect(`tell ${config ?? "-"}, ${split} of ${names.slice(0, 60)}`, () =>
      Effect.map(choose(names, undefined, config, split), (files) => assert.strictEqual(files, takes)),
    )
  }

  it.effect("that tell nothing, or something else, are listed", () =>
    Effect.gen(function* () {
      assert.match(
        yield* refused("README.md a.txt", undefined, undefined, "test"),
        /^hub-data:acme\/rows@main has no data files whose names tell/,
      )
      assert.match(
        yield* refused("a/test.csv b/test.csv", undefined, undefined, "test"),
        /several configs, and none is the default; choose one of a, b$/,
      )
      assert.match(
        yield* refused("a/test.csv b/test.csv", undefined, "c", "test"),
        /has no config 'c'; choose one of a, b$/,
      )
      assert.match(
        yield* refused("a/test.csv a/dev.csv", undefined, "a", "train"),
        /has no split 'train' in config 'a'; it has dev, test$/,
      )
      assert.match(
        yield* refused("config.json dataset_info.json", undefined, undefined, "config"),
        /has no data files whose names tell/,
      )
      assert.match(
        yield* refused("default/partial-train/0000.parquet default/test/0000.parquet", undefined, undefined, "train"),
        /has only a part of split 'train' in config 'default': the hub's converter stopped .* or write 'partial-train'/,
      )
      for (const [names, missing] of [
        ["x/train/0001.parquet", 0],
        ["x/train/0000.parquet x/train/0002.parquet", 1],
      ] as const) {
        assert.match(
          yield* refused(names, undefined, undefined, "train"),
          new RegExp(`'train' in config 'x' of which part ${missing} is missing \\(x/train/`),
        )
      }
      assert.match(
        yield* refused("test.csv test.jsonl", undefined, undefined, "test"),
        /there are files in .csv and .jsonl; @refs\/convert\/parquet/,
      )
      assert.match(
        yield* refused(
          "data/train-00000-of-00003.parquet data/train-00002-of-00003.parquet",
          undefined,
          undefined,
          "train",
        ),
        /of which only 2 of 3 parts are there/,
      )
    }),
  )
})

describe("a card", () => {
  const names =
    "data.csv holdout.csv extra/a.jsonl extra/deep/b.jsonl en/train.csv en/test.csv README.md config.json .hid/.a.csv .hid/b.csv __old/c.csv more/2019.parquet notes.txt"
  const found: ReadonlyArray<readonly [yaml: string, config: string | undefined, split: string, takes: string]> = [
    [
      "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data.csv\n  - split: test\n    path: holdout.csv",
      undefined,
      "test",
      "holdout.csv",
    ],
    ["configs:\n- config_name: x\n  data_files: data.csv", undefined, "train", "data.csv"],
    ["configs:\n- config_name: x\n  data_files: [data.csv, holdout.csv]", "x", "train", "data.csv holdout.csv"],
    ["configs:\n- config_name: x\n  data_files: [holdout.csv, 'd*.csv']", "x", "train", "holdout.csv data.csv"],
    [
      "configs:\n- config_name: x\n  data_files: [holdout.csv, '*.csv', 'en/*']",
      "x",
      "train",
      "holdout.csv data.csv en/test.csv en/train.csv",
    ],
    [
      "configs:\n- config_name: x\n  data_files: '**/*.csv'",
      "x",
      "train",
      "data.csv en/test.csv en/train.csv holdout.csv",
    ],
    ["configs:\n- config_name: x\n  data_files: '.hid/*'", "x", "train", ".hid/b.csv"],
    ["configs:\n- config_name: x\n  data_files: '.*/.*'", "x", "train", ".hid/.a.csv"],
    ["configs:\n- config_name: x\n  data_files: '__*/*.csv'", "x", "train", "__old/c.csv"],
    [
      "configs:\n- config_name: x\n  data_files: '*.json'\n- config_name: y\n  data_files: config.json",
      "y",
      "train",
      "config.json",
    ],
    ["configs:\n- config_name: x\n  data_files: more/*.parquet", "x", "train", "more/2019.parquet"],
    [
      "configs:\n- config_name: x\n  data_files:\n  - split: all\n    path: extra/**",
      "x",
      "all",
      "extra/a.jsonl extra/deep/b.jsonl",
    ],
    ["configs:\n- config_name: x\n  data_files:\n  - split: all\n    path: extra/*.jsonl", "x", "all", "extra/a.jsonl"],
    [
      "configs:\n- config_name: x\n  data_files:\n  - split: all\n    path: ['./extra/[ab].jsonl']",
      "x",
      "all",
      "extra/a.jsonl",
    ],
    [
      "configs:\n- config_name: x\n  data_files: data.csv\n- config_name: y\n  default: true\n  data_files: holdout.csv",
      undefined,
      "train",
      "holdout.csv",
    ],
    ["configs:\n- config_name: english\n  data_dir: en", "english", "test", "en/test.csv"],
    ["configs:\n- config_name: english\n  data_dir: en\n  data_files: 'te*'", "english", "train", "en/test.csv"],
    ["tags: [a]", "en", "test", "en/test.csv"],
  ]
  for (const [yaml, config, split, takes] of found) {
    it.effect(`says ${config ?? "-"}, ${split}: ${yaml.replaceAll("\n", " ").slice(0, 70)}`, () =>
      Effect.map(choose(names, card(yaml), config, split), (files) => assert.strictEqual(files, takes)),
    )
  }
  it.effect("without a head is none", () =>
    Effect.map(choose("test.csv", "# Rows\n", undefined, "test"), (files) => assert.strictEqual(files, "test.csv")),
  )

  const wrong: ReadonlyArray<readonly [yaml: string, message: RegExp]> = [
    ["configs: [", /README.md whose head is not YAML/],
    ["configs: x", /configs are no list/],
    ["configs: [{}]", /configs have one without config_name/],
    ["configs: [{ config_name: x, data_files: 3 }]", /config 'x' has data_files that are neither/],
    [
      "configs: [{ config_name: x, data_files: [{ split: train }] }]",
      /config 'x' has data_files without split and path/,
    ],
    ["configs: [{ config_name: x, data_dir: nowhere }]", /config 'x' names no data_files/],
    ["configs: [{ config_name: x, data_files: nope.csv }]", /of which no file matches nope.csv/],
    ["configs: [{ config_name: x, data_files: '*.json' }]", /of which no file matches \*.json/],
    ["configs: [{ config_name: x, data_files: '../../*' }]", /of which no file matches/],
    [
      "configs: [{ config_name: x, data_files: '*' }]",
      /of which notes.txt is not one of .parquet, .jsonl, .json, .csv/,
    ],
    ["configs: [{ config_name: x, data_files: 'hf://datasets/other/x.csv' }]", /no file matches/],
    [
      `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [${"*a,".repeat(60)}]\nc: &c [${"*b,".repeat(60)}]\nconfigs: [*c]`,
      /head is not YAML/,
    ],
  ]
  for (const [yaml, message] of wrong) {
    it.effect(`with ${yaml.slice(0, 60)} is refused`, () =>
      Effect.map(refused(names, card(yaml), undefined, "train"), (error) => assert.match(error, message)),
    )
  }
})

describe("a glob", () => {
  const globs = [
    "*",
    "**",
    "a*",
    "*.csv",
    "a/*",
    "a/**",
    "**/b.csv",
    "a/**/c.csv",
    "a/?.csv",
    "a/[bc].csv",
    "a/[!b].csv",
    "a/[a-c].csv",
    "*/*/*.csv",
    "a/**/*.csv",
  ]
  const paths = ["a", "a.csv", "a/b.csv", "a/c.csv", "a/b/c.csv", "a/b/d/c.csv", "b.csv", "x/b.csv", "ab", "a/d.csv"]
  it("matches as Node's does", () => {
    for (const glob of globs) {
      for (const path of paths) {
        assert.strictEqual(DataFiles.matches(glob, path), matchesGlob(path, glob), `${glob} ${path}`)
      }
    }
  })
  it("takes no time to fail", () => {
    const began = performance.now()
    assert.isFalse(DataFiles.matches("*a".repeat(200), `${"a".repeat(900)}/b`))
    assert.isBelow(performance.now() - began, 2_000)
  })
})
