/** From a reference to files: what is pinned, what is fetched, what is refused. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { join } from "node:path"
import { Hub } from "../../src/hub/Hub.ts"
import * as Lock from "../../src/hub/Lock.ts"
import * as Source from "../../src/hub/Source.ts"
import { folder } from "../support/folder.ts"
import { blobId, commitOf, noise, type Repo, sha256 } from "../support/hubServer.ts"
import { bench, COMMIT, FILES, LATER, NAME, reference, repo, silent } from "./fixtures.ts"

const SHARDED = commitOf("sharded")
const sharded: Repo = {
  kind: "model",
  name: "acme/big",
  refs: { main: SHARDED },
  commits: {
    [SHARDED]: {
      "config.json": "{}",
      "tokenizer.json": "{}",
      "a.safetensors": noise(1000, 1),
      "b.safetensors": noise(1000, 2),
      "model.safetensors.index.json": '{"weight_map":{"x":"b.safetensors","y":"a.safetensors"}}',
      "q4.gguf": noise(500, 3),
      "q8.gguf": noise(500, 4),
    },
  },
}
const ROWS = commitOf("rows")
const rows: Repo = {
  kind: "dataset",
  name: "acme/rows",
  refs: { main: ROWS },
  commits: {
    [ROWS]: {
      "README.md":
        "---\nconfigs:\n- config_name: easy\n  data_files:\n  - split: test\n    path: easy/*.csv\n  - split: late\n    path: [late/b.csv, late/a.csv]\n---\n",
      "easy/a.csv": "q,a\n1,2\n",
      "easy/b.csv": "q,a\n3,4\n",
      "hard/test.csv": "q,a\n5,6\n",
      "late/a.csv": "q,a\n7,8\n",
      "late/b.csv": "q,a\n9,10\n",
    },
  },
}

const study = Effect.gen(function* () {
  const there = yield* bench([repo, sharded, rows])
  const lock = join(yield* folder, "study.lock.yaml")
  const given = { lock, frozen: false, onProgress: silent }
  /** Each with a client of its own, as each run has. */
  const run = <A, E>(effect: Effect.Effect<A, E, Hub>, changes: Partial<typeof there.settings> = {}) =>
    Effect.provide(effect, Hub.layerOf({ ...there.settings, ...changes }))
  const model = (text: string, options: Partial<Source.Options> = {}) =>
    run(Source.model(text, { ...given, ...options }))
  const data = (text: string, split: string, options: Partial<Source.Options> = {}) =>
    run(Source.data(text, { config: "easy", split }, { ...given, ...options }))
  const fetched = () =>
    there.server.requests
      .filter(({ host, path }) => host === "hub" && path.includes("/resolve/"))
      .map(({ path }) => path.replace(/^.*\/resolve\/[^/]+\//, ""))
      .toSorted()
  return { ...there, lock, given, run, model, data, fetched }
})
const message = <A, R>(effect: Effect.Effect<A, { readonly message: string }, R>) =>
  Effect.map(Effect.flip(effect), ({ message }) => message)

describe("a model", () => {
  it.live("is fetched as far as it is needed, and pinned", () =>
    Effect.gen(function* () {
      const { model, fetched, lock } = yield* study
      const { commit, folder, files } = yield* model(`hub:${NAME}`)
      const names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
      assert.strictEqual(commit, COMMIT)
      assert.deepStrictEqual([...files.keys()], names)
      assert.deepStrictEqual(
        [...files.values()],
        names.map((name) => join(folder, name)),
      )
      assert.deepStrictEqual(fetched(), names)
      const pinned = Lock.check(yield* Lock.read(lock), reference(), "model")
      assert.strictEqual(pinned?.commit, COMMIT)
      assert.deepStrictEqual(
        pinned?.files?.map(({ path }) => path),
        names,
      )
    }),
  )

  it.live("in shards is fetched by its index; a GGUF file alone", () =>
    Effect.gen(function* () {
      const { model, fetched, server, lock } = yield* study
      const { files } = yield* model("hub:acme/big")
      assert.include([...files.keys()].join(), "a.safetensors,b.safetensors,config.json,model.safetensors.index.json")
      server.requests.length = 0
      assert.deepStrictEqual([...(yield* model("hub:acme/big@main#q8.gguf")).files.keys()], ["q8.gguf"])
      assert.deepStrictEqual(fetched(), ["q8.gguf"])
      const { uses } = (yield* Lock.read(lock)).get("hub:acme/big@main")!
      assert.deepStrictEqual([...uses.keys()], ["model", "q8.gguf"])
    }),
  )

  it.live("stays at its commit when the branch moves, without asking for it", () =>
    Effect.gen(function* () {
      const { model, server, lock } = yield* study
      yield* model(`hub:${NAME}`)
      const text = Fs.readFileSync(lock, "utf8")
      server.repos[0] = { ...repo, refs: { main: LATER } }
      server.requests.length = 0
      assert.strictEqual((yield* model(`hub:${NAME}`)).commit, COMMIT)
      assert.deepStrictEqual(server.requests, [])
      assert.strictEqual(Fs.readFileSync(lock, "utf8"), text)
      Fs.rmSync(lock)
      assert.strictEqual((yield* model(`hub:${NAME}`)).commit, LATER)
    }),
  )

  it.live("that is pinned is fetched into an empty cache without a question but for its bytes", () =>
    Effect.gen(function* () {
      const { given, server, run, model } = yield* study
      yield* model(`hub:${NAME}`)
      server.repos[0] = { ...repo, refs: { main: LATER } }
      server.requests.length = 0
      const cache = yield* folder
      const { commit } = yield* run(Source.model(`hub:${NAME}`, { ...given, frozen: true }), { cache })
      assert.strictEqual(commit, COMMIT)
      assert.isFalse(server.requests.some(({ path }) => path.startsWith("/api/")))
      assert.isFalse(Fs.existsSync(join(cache, "models--acme--tiny", "refs")))
    }),
  )

  it.live("keeps to the pinned commit when another of its files is used first", () =>
    Effect.gen(function* () {
      const { model, server } = yield* study
      const later = commitOf("later")
      yield* model("hub:acme/big#q4.gguf")
      server.repos[1] = { ...sharded, refs: { main: later }, commits: { ...sharded.commits, [later]: {} } }
      assert.strictEqual((yield* model("hub:acme/big#q8.gguf")).commit, SHARDED)
    }),
  )

  it.live("is pinned before its download ends, so that the next run goes on with it", () =>
    Effect.gen(function* () {
      const { model, server } = yield* study
      server.fault = ({ host }) => (host === "storage" ? { cutAfter: 300_000 } : undefined)
      assert.match(yield* message(model(`hub:${NAME}`)), /broke off at byte/)
      server.repos[0] = { ...repo, refs: { main: LATER } }
      server.fault = () => undefined
      assert.strictEqual((yield* model(`hub:${NAME}`)).commit, COMMIT)
      assert.match(server.requests.at(-1)!.headers.range!, /bytes=[1-9]/)
    }),
  )
})

describe("frozen", () => {
  it.live("refuses what is not pinned, by name and without a request", () =>
    Effect.gen(function* () {
      const { model, data, server, lock } = yield* study
      const frozen = { frozen: true }
      assert.strictEqual(
        yield* message(model(`hub:${NAME}`, frozen)),
        `${lock} does not pin hub:acme/tiny@main (model), and --frozen allows nothing else; run once without --frozen to pin it: assay run <study>`,
      )
      assert.match(
        yield* message(data("hub-data:acme/rows", "test", frozen)),
        /does not pin hub-data:acme\/rows@main \(easy, test\)/,
      )
      assert.deepStrictEqual(server.requests, [])
      yield* model("hub:acme/big#q4.gguf")
      server.requests.length = 0
      assert.match(yield* message(model("hub:acme/big#q8.gguf", frozen)), /does not pin hub:acme\/big@main \(q8.gguf\)/)
      assert.match(yield* message(model("hub:acme/big@v2#q4.gguf", frozen)), /does not pin hub:acme\/big@v2/)
      yield* model("hub:acme/big#q4.gguf", frozen)
      assert.deepStrictEqual(server.requests, [])
    }),
  )

  it.live("refuses bytes other than the pinned ones, wherever they come from", () =>
    Effect.gen(function* () {
      const { model, lock, cache } = yield* study
      yield* model(`hub:${NAME}`)
      const text = Fs.readFileSync(lock, "utf8")
      const digest = /blob: "?([0-9a-f]{40})/.exec(text)![1]!
      Fs.writeFileSync(lock, text.replace(digest, "f".repeat(40)))
      assert.match(
        yield* message(model(`hub:${NAME}`, { frozen: true })),
        /config.json is not what it should be: .*expected git blob ffff/,
      )
      Fs.rmSync(join(cache, "models--acme--tiny"), { recursive: true })
      assert.match(
        yield* message(model(`hub:${NAME}`, { frozen: true })),
        /config.json is not what it should be: http.*expected git blob ffff.*or the lock is not of this commit/,
      )
      Fs.writeFileSync(lock, text.replace("version: 1", "version: 7"))
      assert.match(yield* message(model(`hub:${NAME}`)), /study.lock.yaml:3:10: version must be 1/)
    }),
  )
})

describe("offline", () => {
  /** As huggingface_hub keeps it. */
  const keepTree = (cache: string) => {
    const files = Object.entries(FILES).map(([path, content]) => {
      const size = content.length
      const isLarge = typeof content !== "string"
      const large = { size, blob_id: "0".repeat(40), lfs_sha256: sha256(content), lfs_size: size }
      return [path, isLarge ? large : { size, blob_id: blobId(content) }]
    })
    const trees = join(cache, "models--acme--tiny", "trees")
    Fs.mkdirSync(trees)
    Fs.writeFileSync(
      join(trees, `${COMMIT}.json`),
      JSON.stringify({ format_version: 1, files: Object.fromEntries(files) }),
    )
  }
  const filled = Effect.gen(function* () {
    const there = yield* study
    yield* there.model(`hub:${NAME}`)
    const online = Fs.readFileSync(there.lock, "utf8")
    Fs.rmSync(there.lock)
    there.server.requests.length = 0
    const notes: Array<string> = []
    const given = { ...there.given, onNote: (text: string) => Effect.sync(() => void notes.push(text)) }
    const offline = there.run(Source.model(`hub:${NAME}`, given), { offline: true })
    const snapshot = join(there.cache, "models--acme--tiny", "snapshots", COMMIT)
    return { ...there, online, notes, offline, snapshot }
  })

  it.live("uses files that happen to be in the cache, and says so instead of pinning them", () =>
    Effect.gen(function* () {
      const { offline, notes, server, lock, snapshot } = yield* filled
      // As after a download of single files: nothing tells that there is more.
      Fs.rmSync(join(snapshot, "tokenizer_config.json"))
      const { files } = yield* offline
      assert.deepStrictEqual([...files.keys()], ["config.json", "model.safetensors", "tokenizer.json"])
      assert.deepStrictEqual(server.requests, [])
      assert.isFalse(Fs.existsSync(lock))
      assert.deepStrictEqual(notes, [
        `hub:acme/tiny@main (model) is made of the files that happen to be in the cache, and not pinned in ${lock}; run once without HF_HUB_OFFLINE to pin it`,
      ])
    }),
  )

  it.live("names what is missing of what the kept listing has", () =>
    Effect.gen(function* () {
      const { offline, cache, snapshot } = yield* filled
      keepTree(cache)
      Fs.rmSync(join(snapshot, "tokenizer_config.json"))
      Fs.rmSync(join(cache, "models--acme--tiny", "blobs", blobId("{}")))
      const error = yield* Effect.flip(offline)
      assert.strictEqual(error._tag, "NotCached")
      assert.match(error.message, /hub:acme\/tiny@main: tokenizer_config.json is not in .*HF_HUB_OFFLINE/)
    }),
  )

  it.live("pins and uses what is in the cache where the listing is, too", () =>
    Effect.gen(function* () {
      const { given, run, server, lock, cache, online, notes } = yield* filled
      keepTree(cache)
      const { commit } = yield* run(Source.model(`hub:${NAME}`, given), { offline: true })
      assert.strictEqual(commit, COMMIT)
      assert.deepStrictEqual(server.requests, [])
      assert.deepStrictEqual(notes, [])
      assert.strictEqual(Fs.readFileSync(lock, "utf8"), online)
      assert.match(
        yield* message(run(Source.model("hub:acme/big", given), { offline: true })),
        /hub:acme\/big@main: revision 'main' is not in .*, and HF_HUB_OFFLINE forbids to fetch it/,
      )
    }),
  )
})

describe("a data set", () => {
  it.live("gives the files of a split in their order, and pins them", () =>
    Effect.gen(function* () {
      const { data, fetched, server, lock } = yield* study
      const { files, folder } = yield* data("hub-data:acme/rows", "test")
      assert.deepStrictEqual([...files.values()], [join(folder, "easy/a.csv"), join(folder, "easy/b.csv")])
      assert.deepStrictEqual(fetched(), ["README.md", "easy/a.csv", "easy/b.csv"])
      server.requests.length = 0
      yield* data("hub-data:acme/rows", "test", { frozen: true })
      assert.deepStrictEqual(server.requests, [])
      const { uses } = (yield* Lock.read(lock)).get("hub-data:acme/rows@main")!
      assert.deepStrictEqual([...uses.keys()], ["easy, test"])
      assert.match(
        yield* message(data("hub-data:acme/rows", "train")),
        /has no split 'train' in config 'easy'; it has test, late/,
      )
    }),
  )

  it.live("keeps the order that its card says, also when it is pinned", () =>
    Effect.gen(function* () {
      const { data } = yield* study
      for (const frozen of [false, true]) {
        const { files } = yield* data("hub-data:acme/rows", "late", { frozen })
        assert.deepStrictEqual([...files.keys()], ["late/b.csv", "late/a.csv"])
      }
    }),
  )

  it.live("is no model, nor the other way round", () =>
    Effect.gen(function* () {
      const { data, model } = yield* study
      assert.match(yield* message(model("hub-data:acme/rows")), /is a data set where a model is needed/)
      assert.match(yield* message(data(`hub:${NAME}`, "test")), /is a model where a data set is needed/)
      assert.match(yield* message(model("hub:acme/none")), /there is no http/)
    }),
  )
})
