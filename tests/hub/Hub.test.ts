/** What the hub says, and the cache that other Hugging Face clients share. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { join } from "node:path"
import type { RepoFile } from "../../src/hub/Digest.ts"
import { folder } from "../support/folder.ts"
import { blobId, type HubServer, sha256 } from "../support/hubServer.ts"
import {
  type Bench,
  bench,
  client,
  COMMIT,
  FILES,
  LATER,
  NAME,
  reference,
  repo,
  silent,
  WEIGHTS,
  withToken,
} from "./fixtures.ts"

const resolveAll = Effect.fnUntraced(function* ({ settings }: Bench) {
  const hub = yield* client(settings)
  const resolved = yield* hub.resolve(reference())
  return { hub, ...resolved }
})
const named = (files: ReadonlyArray<RepoFile>, ...names: ReadonlyArray<string>) =>
  files.filter(({ path }) => names.includes(path))
const storageOf = (cache: string) => join(cache, "models--acme--tiny")

describe("resolve", () => {
  it.live("gives the commit and every file, whatever the size of a page", () =>
    Effect.gen(function* () {
      const there = yield* bench()
      for (const pageSize of [1000, 4, 1]) {
        there.server.pageSize = pageSize
        const { commit, files } = yield* resolveAll(there)
        assert.strictEqual(commit, COMMIT)
        assert.deepStrictEqual(new Set(files.map(({ path }) => path)), new Set(Object.keys(FILES)))
        assert.deepStrictEqual(named(files, "config.json", "model.safetensors"), [
          { path: "config.json", size: 22, digest: { kind: "blob", hex: blobId(FILES["config.json"]) } },
          { path: "model.safetensors", size: 3_000_000, digest: { kind: "sha256", hex: sha256(WEIGHTS) } },
        ])
      }
    }),
  )

  it.live("takes branches with slashes, commits, data sets and names without owner", () =>
    Effect.gen(function* () {
      const old = { ...repo, name: "tiny" }
      const { settings } = yield* bench([repo, old, { ...repo, kind: "dataset", name: "acme/rows" }])
      const hub = yield* client(settings)
      const texts = [`hub:${NAME}@pr/1`, `hub:${NAME}@${COMMIT}`, "hub:tiny", "hub-data:acme/rows"]
      for (const text of texts) assert.strictEqual((yield* hub.resolve(reference(text))).commit, COMMIT, text)
      assert.strictEqual((yield* hub.resolve(reference(`hub:${NAME}@${LATER}`))).commit, LATER)
    }),
  )

  const listings: ReadonlyArray<readonly [what: string, entry: object, message: RegExp]> = [
    ["has no name", { path: 3 }, /lists a file named 3/],
    ["has a negative size", { size: -1 }, /"x" of -1 bytes/],
    ["has no digest", { oid: undefined }, /"x" with the digest undefined/],
    ["has a digest that is a path", { oid: "../../../x" }, /"x" with the digest "..\/..\/..\/x"/],
    ["has an LFS digest that is none", { lfs: { oid: "0".repeat(40), size: 1 } }, /with the digest "000/],
  ]
  for (const [what, entry, message] of listings) {
    it.live(`refuses a listing with a file that ${what}`, () =>
      Effect.gen(function* () {
        const { server, settings, cache } = yield* bench()
        const listing = [{ type: "file", path: "x", size: 1, oid: "0".repeat(40), ...entry }]
        server.fault = ({ path }) => (path.includes("/tree/") ? { listing } : undefined)
        const error = yield* Effect.flip(Effect.flatMap(client(settings), (hub) => hub.resolve(reference())))
        assert.strictEqual(error._tag, "BadAnswer")
        assert.match(error.message, message)
        assert.deepStrictEqual(Fs.readdirSync(cache), [])
      }),
    )
  }

  it.live("leaves out what it makes no path of, and takes the rest", () =>
    Effect.gen(function* () {
      const { server, settings } = yield* bench()
      const hub = yield* client(settings)
      const odd = ["../../x", "a/../../x", "/etc/x", "notes\\x.txt", "a\\..\\x", "C:x", "a\0b", "a\u001bb", ""]
      const listing = [...odd, "config.json"].map((path) => ({ type: "file", path, size: 22, oid: "0".repeat(40) }))
      server.fault = ({ path }) => (path.includes("/tree/") ? { listing } : undefined)
      const { files } = yield* hub.resolve(reference())
      assert.deepStrictEqual(
        files.map(({ path }) => path),
        ["config.json"],
      )
    }),
  )

  const twice = { type: "file", path: "x", size: 1, oid: "0".repeat(40) }
  it.live("refuses a listing with a file twice", () =>
    Effect.gen(function* () {
      const { server, settings } = yield* bench()
      server.fault = ({ path }) => (path.includes("/tree/") ? { listing: [twice, twice] } : undefined)
      const error = yield* Effect.flip(Effect.flatMap(client(settings), (hub) => hub.resolve(reference())))
      assert.match(error.message, /"x" is listed twice/)
    }),
  )

  /** Answers for the hub's own address, with what the second server has; and notes what was asked of it. */
  const pretending = (server: HubServer) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const real = globalThis.fetch
        const asked: Array<Request> = []
        globalThis.fetch = (input, init) => {
          const request = new Request(input, init)
          const { origin, pathname, search } = new URL(request.url)
          if (origin === server.endpoint || origin === server.storage) return real(input, init)
          asked.push(request)
          return real(`${server.endpoint}/official${pathname}${search}`, { redirect: "manual" })
        }
        return { asked, real }
      }),
      ({ real }) => Effect.sync(() => void (globalThis.fetch = real)),
    )

  it.live("of a mirror takes pages that are named by the hub's own address from the mirror", () =>
    Effect.gen(function* () {
      const { server, settings } = yield* bench()
      const { asked } = yield* pretending(server)
      server.tokens.add("hf_secret")
      const tree = `/api/models/${NAME}/tree/${COMMIT}`
      server.pageSize = 4
      server.fault = ({ path, url }) =>
        path === tree && !url.searchParams.has("cursor")
          ? { headers: { link: `<https://huggingface.co${tree}?recursive=true&cursor=4>; rel="next"` } }
          : undefined
      const { files } = yield* (yield* client(withToken(settings, "hf_secret"))).resolve(reference())
      assert.strictEqual(files.length, Object.keys(FILES).length)
      assert.deepStrictEqual(asked, [])
    }),
  )

  it.live("of a mirror follows to the hub itself, without the token", () =>
    Effect.gen(function* () {
      const { server, settings } = yield* bench()
      server.tokens.add("hf_secret")
      const { asked } = yield* pretending(server)
      const entry = { type: "file", path: "x", size: 1, oid: "0".repeat(40) }
      for (const official of ["https://huggingface.co", "https://hf.co"]) {
        asked.length = 0
        server.fault = ({ path }) =>
          path === `/official/x/tree`
            ? { status: 200, headers: { "content-type": "application/json" }, body: JSON.stringify([entry]) }
            : path.includes("/tree/")
              ? { status: 308, headers: { location: `${official}/x/tree` } }
              : undefined
        const { files } = yield* (yield* client(withToken(settings, "hf_secret"))).resolve(reference())
        assert.deepStrictEqual(
          files.map(({ path }) => path),
          ["x"],
        )
        assert.deepStrictEqual(
          asked.map(({ url }) => url),
          [`${official}/x/tree`],
        )
        assert.isFalse(asked[0]!.headers.has("authorization"))
        assert.isTrue(server.requests.some(({ headers }) => headers.authorization === "Bearer hf_secret"))
        // What it refuses is refused by the hub, not by some storage.
        server.fault = ({ path }) =>
          path === `/official/x/tree`
            ? { status: 404, headers: { "x-error-code": "RepoNotFound" }, body: "" }
            : path.includes("/tree/")
              ? { status: 308, headers: { location: `${official}/x/tree` } }
              : undefined
        assert.strictEqual((yield* Effect.flip((yield* client(settings)).resolve(reference())))._tag, "MissingRepo")
      }
    }),
  )

  it.live("refuses a listing that never ends, or that another host is to give", () =>
    Effect.gen(function* () {
      const { server, settings } = yield* bench()
      const hub = yield* client(settings)
      const linkTo = (link: string) => {
        server.fault = ({ path }) =>
          path.includes("/tree/") ? { listing: [], headers: { link: `<${link}>; rel="next"` } } : undefined
        return Effect.flip(hub.resolve(reference()))
      }
      const tree = `${server.endpoint}/api/models/${NAME}/tree/${COMMIT}?recursive=true&expand=false`
      assert.match((yield* linkTo(tree)).message, /listing does not end/)
      assert.match((yield* linkTo(`${server.storage}/tree`)).message, /sends us to http:.* for its own listing/)
      assert.isFalse(server.requests.some(({ host }) => host === "storage"))
      server.fault = ({ path }) =>
        path.includes("/revision/") ? { status: 307, headers: { location: `${server.storage}/x` } } : undefined
      server.fault = ({ host, path }) =>
        host === "storage"
          ? { status: 200, body: "{}" }
          : path.includes("/revision/")
            ? { status: 307, headers: { location: `${server.storage}/x` } }
            : undefined
      assert.match((yield* Effect.flip(hub.resolve(reference()))).message, /for its own listing/)
    }),
  )

  it.live("refuses an answer that is no answer", () =>
    Effect.gen(function* () {
      const { server, settings } = yield* bench()
      const hub = yield* client(settings)
      const answer = (body: string) => {
        server.fault = ({ path }) => (path.includes("/revision/") ? { status: 200, body } : undefined)
        return Effect.flip(hub.resolve(reference()))
      }
      assert.match((yield* answer("<html>")).message, /makes no sense/)
      assert.match((yield* answer('{"sha":"../x"}')).message, /calls the commit of 'main' "..\/x"/)
      const other = Effect.flip(hub.resolve(reference(`hub:${NAME}@${LATER}`)))
      server.fault = ({ path }) =>
        path.includes("/revision/") ? { status: 200, body: JSON.stringify({ sha: COMMIT }) } : undefined
      assert.match((yield* other).message, new RegExp(`asked for ${LATER}, the hub answers with ${COMMIT}`))
    }),
  )
})

describe("fetch", () => {
  it.live("lays files out as the other clients do, and only those asked for", () =>
    Effect.gen(function* () {
      const there = yield* bench()
      const { hub, files } = yield* resolveAll(there)
      const wanted = named(files, "config.json", "model.safetensors", "onnx/model.bin")
      const seen: Array<readonly [number, number]> = []
      const at = yield* hub.fetch(reference(), COMMIT, wanted, (done, total) =>
        Effect.sync(() => void seen.push([done, total])),
      )
      const storage = storageOf(there.cache)
      assert.strictEqual(at, join(storage, "snapshots", COMMIT))
      assert.deepStrictEqual(Fs.readdirSync(at).toSorted(), ["config.json", "model.safetensors", "onnx"])
      assert.deepStrictEqual(Fs.readFileSync(join(at, "model.safetensors")), Buffer.from(WEIGHTS))
      assert.strictEqual(Fs.readlinkSync(join(at, "config.json")), `../../blobs/${blobId(FILES["config.json"])}`)
      assert.strictEqual(
        Fs.readlinkSync(join(at, "onnx", "model.bin")),
        `../../../blobs/${sha256(FILES["onnx/model.bin"])}`,
      )
      assert.deepStrictEqual(Fs.readdirSync(join(storage, "blobs")).length, 3)
      assert.strictEqual(Fs.readFileSync(join(storage, "refs", "main"), "utf8"), COMMIT)

      const total = 22 + 3_000_000 + 100
      assert.isAbove(seen.length, 5)
      assert.isTrue(seen.every(([done, of], i) => of === total && done >= (seen[i - 1]?.[0] ?? 0) && done <= total))
      assert.strictEqual(seen.at(-1)![0], total)
    }),
  )

  it.live("asks nothing of the hub for what is there, and reports it as done", () =>
    Effect.gen(function* () {
      const there = yield* bench()
      const { hub, files } = yield* resolveAll(there)
      yield* hub.fetch(reference(), COMMIT, files, silent)
      const again = yield* client({ ...there.settings, endpoint: "http://127.0.0.1:1" })
      let last = 0
      yield* again.fetch(reference(), COMMIT, files, (done) => Effect.sync(() => void (last = done)))
      assert.strictEqual(
        last,
        files.reduce((sum, { size }) => sum + size, 0),
      )
    }),
  )

  it.live("takes the blob of another commit, and one behind a broken link anew", () =>
    Effect.gen(function* () {
      const there = yield* bench()
      const { hub, files } = yield* resolveAll(there)
      const weights = named(files, "model.safetensors")
      yield* hub.fetch(reference(), COMMIT, weights, silent)
      const before = there.server.requests.length
      const at = yield* hub.fetch(reference(), LATER, weights, silent)
      assert.strictEqual(there.server.requests.length, before)
      assert.strictEqual(Fs.statSync(join(at, "model.safetensors")).size, 3_000_000)
      Fs.rmSync(join(storageOf(there.cache), "blobs", sha256(WEIGHTS)))
      yield* hub.fetch(reference(), COMMIT, weights, silent)
      assert.strictEqual(Fs.statSync(join(at, "model.safetensors")).size, 3_000_000)
    }),
  )

  it.live("leaves a branch's ref alone when the commit did not come from it", () =>
    Effect.gen(function* () {
      const there = yield* bench()
      const { hub, files } = yield* resolveAll(there)
      yield* hub.fetch(reference(), LATER, named(files, "tokenizer.json"), silent)
      assert.isFalse(Fs.existsSync(join(storageOf(there.cache), "refs")))
    }),
  )

  const damaged: ReadonlyArray<readonly [what: string, bytes: Uint8Array, message: RegExp]> = [
    ["is shorter", WEIGHTS.subarray(1), /has 2999999 bytes, expected 3000000 bytes; delete that file/],
    ["has one other bit", WEIGHTS.with(2_000_000, WEIGHTS[2_000_000]! ^ 1), /has SHA-256 .*, expected SHA-256 39d0/],
  ]
  for (const [what, bytes, message] of damaged) {
    it.live(`refuses a file of the cache that ${what}`, () =>
      Effect.gen(function* () {
        const there = yield* bench()
        const { hub, files } = yield* resolveAll(there)
        yield* hub.fetch(reference(), COMMIT, files, silent)
        Fs.writeFileSync(join(storageOf(there.cache), "blobs", sha256(WEIGHTS)), bytes)
        for (const other of [hub, yield* client(there.settings)]) {
          const error = yield* Effect.flip(other.fetch(reference(), COMMIT, files, silent))
          assert.strictEqual(error._tag, "Tampered")
          assert.match(error.message, message)
          assert.include(error.message, "model.safetensors")
        }
      }),
    )
  }

  it.live("digests what is there once, with the digests that someone remembers", () =>
    Effect.gen(function* () {
      const there = yield* bench()
      const { hub, files } = yield* resolveAll(there)
      yield* hub.fetch(reference(), COMMIT, files, silent)
      const asked: Array<string> = []
      const { Hub } = yield* Effect.promise(() => import("../../src/hub/Hub.ts"))
      const remembering = yield* Effect.provide(
        Hub,
        Hub.layerOf(there.settings, {
          sha256: (file) => Effect.sync(() => (asked.push(file), sha256(Fs.readFileSync(file)))),
        }),
      )
      yield* remembering.fetch(reference(), COMMIT, files, silent)
      assert.strictEqual(asked.length, 3)
      yield* remembering.fetch(reference(), COMMIT, files, silent)
      assert.strictEqual(asked.length, 3)
    }),
  )

  it.live("follows no link out of the repository's folder", () =>
    Effect.gen(function* () {
      const there = yield* bench()
      const { hub, files } = yield* resolveAll(there)
      const at = yield* hub.fetch(reference(), COMMIT, files, silent)
      const outside = join(yield* folder, "config.json")
      Fs.writeFileSync(outside, FILES["config.json"])
      Fs.rmSync(join(at, "config.json"))
      Fs.symlinkSync(outside, join(at, "config.json"))
      const error = yield* Effect.flip(hub.fetch(reference(), COMMIT, files, silent))
      assert.match(error.message, /config.json: it leads to .*, out of the repository's folder; remove the link/)
    }),
  )

  it.live("makes no link in a folder that leads out of the snapshot", () =>
    Effect.gen(function* () {
      const there = yield* bench()
      const { hub, files } = yield* resolveAll(there)
      const at = yield* hub.fetch(reference(), COMMIT, named(files, "config.json"), silent)
      const outside = yield* folder
      Fs.symlinkSync(outside, join(at, "onnx"))
      const error = yield* Effect.flip(hub.fetch(reference(), COMMIT, named(files, "onnx/model.bin"), silent))
      assert.match(error.message, /onnx leads out of/)
      assert.deepStrictEqual(Fs.readdirSync(outside), [])
    }),
  )

  it.live("takes the blobs that huggingface_hub shares among repositories, and plain files", () =>
    Effect.gen(function* () {
      const there = yield* bench()
      const { hub, files } = yield* resolveAll(there)
      const at = yield* hub.fetch(reference(), COMMIT, files, silent)
      const blob = join(storageOf(there.cache), "blobs", sha256(WEIGHTS))
      const shared = join(there.cache, "blobs", "ab", "abcd")
      Fs.mkdirSync(join(there.cache, "blobs", "ab"), { recursive: true })
      Fs.renameSync(blob, shared)
      Fs.symlinkSync("../../blobs/ab/abcd", blob)
      Fs.rmSync(join(at, "config.json"))
      Fs.writeFileSync(join(at, "config.json"), FILES["config.json"])
      const before = there.server.requests.length
      yield* (yield* client(there.settings)).fetch(reference(), COMMIT, files, silent)
      assert.strictEqual(there.server.requests.length, before)
    }),
  )

  it.live("checks names that come from elsewhere, such as a lock", () =>
    Effect.gen(function* () {
      const { settings, cache } = yield* bench()
      const hub = yield* client(settings)
      const file = { size: 1, digest: { kind: "blob", hex: "0".repeat(40) } } as const
      const refused = (commit: string, paths: ReadonlyArray<string>) =>
        Effect.map(
          Effect.flip(
            hub.fetch(
              reference(),
              commit,
              paths.map((path) => ({ path, ...file })),
              silent,
            ),
          ),
          ({ message }) => message,
        )
      assert.match(yield* refused(COMMIT, ["../x"]), /'..' part/)
      assert.match(yield* refused(COMMIT, ["x", "x"]), /"x" is listed twice/)
      assert.match(yield* refused("../..", ["x"]), /is no commit/)
      assert.deepStrictEqual(Fs.readdirSync(cache), [])
    }),
  )

  it.live("says when the cache cannot be written", () =>
    Effect.gen(function* () {
      const there = yield* bench()
      const { hub, files } = yield* resolveAll(there)
      Fs.writeFileSync(storageOf(there.cache), "in the way")
      const error = yield* Effect.flip(hub.fetch(reference(), COMMIT, files, silent))
      assert.strictEqual(error._tag, "CacheError")
      assert.match(error.message, /models--acme--tiny/)
    }),
  )
})

describe("offline", () => {
  const filled = Effect.gen(function* () {
    const there = yield* bench()
    const { hub, files } = yield* resolveAll(there)
    yield* hub.fetch(reference(), COMMIT, named(files, "config.json", "model.safetensors", "onnx/model.bin"), silent)
    const offline = yield* client({ ...there.settings, offline: true })
    return { ...there, files, offline, before: there.server.requests.length }
  })

  it.live("finds what is there, by branch and by commit, without a request", () =>
    Effect.gen(function* () {
      const { offline, files, server, before } = yield* filled
      for (const text of [`hub:${NAME}`, `hub:${NAME}@${COMMIT}`]) {
        const resolved = yield* offline.resolve(reference(text))
        assert.strictEqual(resolved.commit, COMMIT)
        assert.isFalse(resolved.complete)
        assert.deepStrictEqual(
          resolved.files,
          named(files, "config.json", "model.safetensors", "onnx/model.bin").toSorted((a, b) =>
            a.path < b.path ? -1 : 1,
          ),
        )
        yield* offline.fetch(reference(text), COMMIT, resolved.files, silent)
      }
      assert.strictEqual(server.requests.length, before)
    }),
  )

  it.live("knows all files by the listing that huggingface_hub keeps", () =>
    Effect.gen(function* () {
      const { offline, files, cache, server, before } = yield* filled
      const trees = join(storageOf(cache), "trees")
      const listed = Object.fromEntries(
        files.map(({ path, size, digest }) => [
          path,
          digest.kind === "blob"
            ? { size, blob_id: digest.hex }
            : { size, blob_id: "0".repeat(40), lfs_sha256: digest.hex, lfs_size: size, xet_hash: "1".repeat(64) },
        ]),
      )
      const write = (tree: unknown) => {
        Fs.mkdirSync(trees, { recursive: true })
        Fs.writeFileSync(join(trees, `${COMMIT}.json`), typeof tree === "string" ? tree : JSON.stringify(tree))
        return offline.resolve(reference())
      }
      const odd = { "notes\\x.txt": { size: 1, blob_id: "0".repeat(40) } }
      const resolved = yield* write({ format_version: 1, files: { ...listed, ...odd } })
      assert.deepStrictEqual(resolved, { commit: COMMIT, files, complete: true })
      assert.strictEqual(server.requests.length, before)
      const unknown = [
        "{",
        "[]",
        { format_version: 2, files: listed },
        { format_version: 1, files: [] },
        { format_version: 1, files: { ...listed, x: { size: 1, blob_id: "../x" } } },
        { format_version: 1, files: { ...listed, x: 3 } },
      ]
      for (const tree of unknown) {
        const found = yield* write(tree)
        assert.isFalse(found.complete, JSON.stringify(tree))
        assert.strictEqual(found.files.length, 3)
      }
    }),
  )

  it.live("says what is not there", () =>
    Effect.gen(function* () {
      const { offline, files, server, before } = yield* filled
      const message = (effect: Effect.Effect<unknown, Error>) =>
        Effect.map(Effect.flip(effect), ({ message }) => message)
      assert.match(
        yield* message(offline.resolve(reference(`hub:${NAME}@v2`))),
        /revision 'v2' is not in .*HF_HUB_OFFLINE/,
      )
      assert.match(
        yield* message(offline.resolve(reference("hub:acme/other"))),
        /hub:acme\/other@main: revision 'main' is not/,
      )
      assert.match(
        yield* message(offline.resolve(reference(`hub:${NAME}@${LATER}`))),
        new RegExp(`commit ${LATER} is not`),
      )
      assert.match(
        yield* message(offline.fetch(reference(), COMMIT, files, silent)),
        /README.md, tokenizer.json, tokenizer_config.json, pytorch_model.bin is not in|README.md.* is not in/,
      )
      assert.strictEqual(server.requests.length, before)
    }),
  )

  it.live("still checks digests", () =>
    Effect.gen(function* () {
      const { offline, cache } = yield* filled
      Fs.writeFileSync(join(storageOf(cache), "blobs", sha256(WEIGHTS)), WEIGHTS.with(0, WEIGHTS[0]! ^ 1))
      const { files } = yield* offline.resolve(reference())
      assert.strictEqual((yield* Effect.flip(offline.fetch(reference(), COMMIT, files, silent)))._tag, "Tampered")
    }),
  )
})
