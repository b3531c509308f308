/** Bytes on their way: breaks, resumption, redirects, digests, and several who want the same. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { type HubServer, sha256 } from "../support/hubServer.ts"
import { bench, client, COMMIT, FILES, NAME, reference, repo, silent, WEIGHTS, withToken } from "./fixtures.ts"

const SIZE = WEIGHTS.length
const blobsOf = (cache: string) => join(cache, "models--acme--tiny", "blobs")
const partialsIn = (cache: string) => Fs.readdirSync(blobsOf(cache)).filter((name) => name.endsWith(".incomplete"))
const served = (server: HubServer) => server.requests.filter(({ host }) => host === "storage")
const bytesOf = (server: HubServer) => served(server).reduce((sum, { bytes }) => sum + bytes, 0)
const fromOf = ({ headers }: { readonly headers: { readonly range?: string | undefined } }) =>
  Number(/\d+/.exec(headers.range ?? "0")![0])
/** What was on its way when a connection ends may be lost. */
const near = (found: number, expected: number) => assert.closeTo(found, expected, 300_000)
const isStorage = ({ host }: { readonly host: string }) => host === "storage"

const prepare = (name = "model.safetensors") =>
  Effect.gen(function* () {
    const there = yield* bench()
    const hub = yield* client(there.settings)
    const { files } = yield* hub.resolve(reference())
    const wanted = files.filter(({ path }) => path === name)
    const fetch = hub.fetch(reference(), COMMIT, wanted, silent)
    return { ...there, hub, wanted, fetch }
  })
const isWhole = (folder: string) =>
  assert.deepStrictEqual(Fs.readFileSync(join(folder, "model.safetensors")), Buffer.from(WEIGHTS))

describe("small files", () => {
  it.live("may come from elsewhere on the hub, compressed and without their length", () =>
    Effect.gen(function* () {
      const { server, settings, fetch, cache } = yield* prepare("tokenizer.json")
      server.resolveCache = true
      const at = yield* fetch
      assert.strictEqual(Fs.readFileSync(join(at, "tokenizer.json"), "utf8"), FILES["tokenizer.json"])
      assert.deepStrictEqual(
        server.requests.slice(-2).map(({ path, status }) => [path, status]),
        [
          [`/${NAME}/resolve/${COMMIT}/tokenizer.json`, 307],
          [`/api/resolve-cache/models/${NAME}/${COMMIT}/tokenizer.json`, 200],
        ],
      )
      // Bytes that are not the file's do not pass for it.
      Fs.rmSync(join(cache, "models--acme--tiny"), { recursive: true })
      server.fault = ({ path }) =>
        path.includes("resolve-cache") ? { status: 200, body: FILES["config.json"], headers: {} } : undefined
      const again = yield* client(settings)
      const { files } = yield* again.resolve(reference())
      const wanted = files.filter(({ path }) => path === "tokenizer.json")
      assert.strictEqual((yield* Effect.flip(again.fetch(reference(), COMMIT, wanted, silent)))._tag, "Tampered")
    }),
  )
})

describe("a connection that breaks", () => {
  it.live("is taken up where it broke, within one fetch", () =>
    Effect.gen(function* () {
      const { server, cache, fetch } = yield* prepare()
      server.fault = (request, before) => (isStorage(request) && before < 2 ? { cutAfter: 1_200_000 } : undefined)
      isWhole(yield* fetch)
      const [first, ...rest] = served(server).map(fromOf)
      assert.strictEqual(first, 0)
      assert.strictEqual(rest.length, 2)
      rest.forEach((from, i) => near(from, 1_200_000 * (i + 1)))
      near(bytesOf(server), SIZE)
      assert.deepStrictEqual(partialsIn(cache), [])
    }),
  )

  it.live("again and again is an error that says how far it came, and the next run goes on", () =>
    Effect.gen(function* () {
      const { server, settings, cache, wanted, fetch } = yield* prepare()
      server.fault = (request) => (isStorage(request) ? { cutAfter: 300_000 } : undefined)
      const error = yield* Effect.flip(fetch)
      assert.strictEqual(error._tag, "Interrupted")
      assert.match(
        error.message,
        /hub:acme\/tiny@main: the download of model.safetensors broke off at byte \d{6} of 3000000/,
      )
      assert.match(error.message, /run again, and it goes on from there/)
      assert.isFalse(Fs.existsSync(join(blobsOf(cache), sha256(WEIGHTS))))
      const [partial, ...more] = partialsIn(cache)
      assert.deepStrictEqual(more, [])
      const { size } = Fs.statSync(join(blobsOf(cache), partial!))
      near(size, 900_000)
      assert.include(error.message, `at byte ${size} of`)

      server.fault = () => undefined
      const before = served(server).length
      isWhole(yield* (yield* client(settings)).fetch(reference(), COMMIT, wanted, silent))
      const after = served(server).slice(before)
      assert.deepStrictEqual(
        after.map(({ headers, bytes, status }) => [headers.range, bytes, status]),
        [[`bytes=${size}-`, SIZE - size, 206]],
      )
      assert.deepStrictEqual(partialsIn(cache), [])
    }),
  )

  it.live("does not count as failed while it brings a megabyte at a time", () =>
    Effect.gen(function* () {
      const { server, settings, wanted } = yield* prepare()
      const stubborn = yield* client({ ...settings, patience: { ...settings.patience, attempts: 2 } })
      server.fault = (request) => (isStorage(request) ? { cutAfter: 1_300_000 } : undefined)
      isWhole(yield* stubborn.fetch(reference(), COMMIT, wanted, silent))
      assert.isAtMost(served(server).length, 4)
    }),
  )

  it.live("without a word counts as broken, too", () =>
    Effect.gen(function* () {
      const { server, settings, wanted } = yield* prepare()
      const hasty = yield* client({ ...settings, patience: { ...settings.patience, attempts: 6, silence: 300 } })
      server.fault = (request, before) =>
        !isStorage(request) ? undefined : before === 0 ? { silent: true } : before === 1 ? { pace: 1_000 } : undefined
      isWhole(yield* hasty.fetch(reference(), COMMIT, wanted, silent))
    }),
  )

  it.live("is resumed for files kept in git, with their ETag", () =>
    Effect.gen(function* () {
      const { server, fetch } = yield* prepare("config.json")
      server.fault = ({ path }, before) => (path.endsWith("/config.json") && before === 0 ? { cutAfter: 5 } : undefined)
      const folder = yield* fetch
      assert.strictEqual(Fs.readFileSync(join(folder, "config.json"), "utf8"), FILES["config.json"])
      const last = server.requests.at(-1)!
      assert.deepStrictEqual([last.status, last.headers.range, last.bytes], [206, "bytes=5-", 17])
      assert.match(last.headers["if-range"] as string, /^"[0-9a-f]{40}"$/)
    }),
  )

  it.live("starts over where the server knows no ranges, or has nothing there", () =>
    Effect.gen(function* () {
      for (const second of [{ ignoreRange: true }, { status: 416 }]) {
        const { server, fetch } = yield* prepare()
        server.fault = (request, before) => (isStorage(request) ? [{ cutAfter: 1_200_000 }, second][before] : undefined)
        isWhole(yield* fetch)
      }
    }),
  )

  it.live("starts over when what had come before is not right", () =>
    Effect.gen(function* () {
      const { server, settings, cache, wanted, fetch } = yield* prepare()
      server.fault = (request) => (isStorage(request) ? { cutAfter: 300_000 } : undefined)
      yield* Effect.flip(fetch)
      const partial = join(blobsOf(cache), partialsIn(cache)[0]!)
      Fs.writeFileSync(partial, WEIGHTS.subarray(0, 800_000).with(7, WEIGHTS[7]! ^ 1))
      server.fault = () => undefined
      isWhole(yield* (yield* client(settings)).fetch(reference(), COMMIT, wanted, silent))
    }),
  )

  it.live("refuses another range than it asked for", () =>
    Effect.gen(function* () {
      const { server, fetch } = yield* prepare()
      server.fault = (request, before) =>
        isStorage(request)
          ? [{ cutAfter: 1_200_000 }, { headers: { "content-range": `bytes 0-${SIZE - 1}/${SIZE}` } }][before]
          : undefined
      const error = yield* Effect.flip(fetch)
      assert.match(error.message, /asked for model.safetensors from byte 1\d{6}, the hub answers with "bytes 0-/)
    }),
  )

  it.live("is given up at once by an interruption, which keeps what came", () =>
    Effect.gen(function* () {
      const { server, settings, cache, hub, wanted } = yield* prepare()
      server.fault = (request) => (isStorage(request) ? { pace: 5 } : undefined)
      const seen = { done: 0 }
      const fiber = yield* Effect.forkChild(
        hub.fetch(reference(), COMMIT, wanted, (bytes) => Effect.sync(() => void (seen.done = bytes))),
      )
      while (seen.done < 500_000) yield* Effect.sleep(5)
      yield* Fiber.interrupt(fiber)
      const kept = partialsIn(cache)
      assert.strictEqual(kept.length, 1)
      const size = Fs.statSync(join(blobsOf(cache), kept[0]!)).size
      assert.isAtLeast(size, 500_000)
      server.fault = () => undefined
      isWhole(yield* (yield* client(settings)).fetch(reference(), COMMIT, wanted, silent))
      assert.strictEqual(served(server).at(-1)!.headers.range, `bytes=${size}-`)
    }),
  )
})

describe("bytes that are not the file's", () => {
  const tampered: ReadonlyArray<readonly [what: string, change: (bytes: Uint8Array) => Uint8Array, message: RegExp]> = [
    ["one bit", (bytes) => bytes.with(1_000, bytes[1_000]! ^ 1), /has SHA-256 .*, expected SHA-256 39d0cc/],
    [
      "a byte too many",
      (bytes) => Buffer.concat([bytes, Buffer.from("x")]),
      /has 3000001 bytes, expected 3000000 bytes/,
    ],
    ["a byte too few", (bytes) => bytes.subarray(1), /has 2999999 bytes, expected 3000000 bytes/],
  ]
  for (const [what, change, message] of tampered) {
    it.live(`are refused and not kept: ${what}`, () =>
      Effect.gen(function* () {
        const { server, cache, fetch } = yield* prepare()
        server.fault = (request) => (isStorage(request) ? { tamper: change } : undefined)
        const error = yield* Effect.flip(fetch)
        assert.strictEqual(error._tag, "Tampered")
        assert.match(error.message, message)
        assert.match(
          error.message,
          /^hub:acme\/tiny@main: model.safetensors is not what it should be: http.*nothing of it was kept/,
        )
        assert.deepStrictEqual(Fs.readdirSync(blobsOf(cache)), [])
        assert.isFalse(Fs.existsSync(join(cache, "models--acme--tiny", "snapshots")))
      }),
    )
  }

  it.live("are refused without a length given, as soon as they are too many", () =>
    Effect.gen(function* () {
      const { server, cache, fetch } = yield* prepare("config.json")
      server.fault = ({ path }) =>
        path.endsWith("/config.json")
          ? {
              tamper: (bytes) => Buffer.concat([bytes, Buffer.alloc(100_000)]),
              headers: { "content-encoding": "identity" },
            }
          : undefined
      assert.match((yield* Effect.flip(fetch)).message, /has more than 22 bytes, expected 22 bytes/)
      assert.deepStrictEqual(Fs.readdirSync(blobsOf(cache)), [])
    }),
  )

  it.live("are refused for files kept in git", () =>
    Effect.gen(function* () {
      const { server, fetch } = yield* prepare("config.json")
      server.fault = ({ path }) =>
        path.endsWith("/config.json") ? { tamper: (bytes) => bytes.with(3, bytes[3]! ^ 1) } : undefined
      assert.match((yield* Effect.flip(fetch)).message, /has git blob .*, expected git blob/)
    }),
  )

  it.live("are not even fetched when the hub names other content or another commit", () =>
    Effect.gen(function* () {
      const { server, fetch } = yield* prepare()
      server.fault = ({ host, path }) =>
        host === "hub" && path.includes("/resolve/")
          ? { headers: { "x-linked-etag": `"${"0".repeat(64)}"` } }
          : undefined
      assert.match((yield* Effect.flip(fetch)).message, /has SHA-256 0000.*expected SHA-256 39d0cc/)
      server.fault = ({ host, path }) =>
        host === "hub" && path.includes("/resolve/") ? { headers: { "x-repo-commit": "0".repeat(40) } } : undefined
      assert.match((yield* Effect.flip(fetch)).message, /the hub answers with "0000/)
    }),
  )
})

describe("a redirect", () => {
  it.live("never carries the token to another origin", () =>
    Effect.gen(function* () {
      const { server, settings } = yield* bench([{ ...repo, gatedTo: "hf_secret" }])
      server.tokens.add("hf_secret")
      const hub = yield* client(withToken(settings, "hf_secret"))
      const { files } = yield* hub.resolve(reference())
      yield* hub.fetch(reference(), COMMIT, files, silent)
      const at = (host: string) => server.requests.filter((request) => request.host === host)
      assert.isAbove(at("storage").length, 2)
      assert.isTrue(at("storage").every(({ headers }) => headers.authorization === undefined))
      assert.isTrue(at("hub").every(({ headers }) => headers.authorization === "Bearer hf_secret"))
      assert.isFalse(server.requests.some(({ headers }) => JSON.stringify(headers).includes("xet-fileinfo")))
    }),
  )

  it.live("within the hub keeps it", () =>
    Effect.gen(function* () {
      const { server, settings } = yield* bench([{ ...repo, name: "acme/new", privateTo: "hf_secret" }])
      server.tokens.add("hf_secret")
      const hub = yield* client(withToken(settings, "hf_secret"))
      const { files } = yield* hub.resolve(reference("hub:acme/new"))
      server.fault = ({ path }) =>
        path.startsWith("/acme/old/") ? { status: 307, headers: { location: path.replace("old", "new") } } : undefined
      const wanted = files.filter(({ path }) => path === "config.json")
      yield* hub.fetch(reference("hub:acme/old"), COMMIT, wanted, silent)
    }),
  )

  it.live("in a circle, or to what is not the web, is refused", () =>
    Effect.gen(function* () {
      const { server, fetch } = yield* prepare()
      const to = (location: string) => {
        server.fault = ({ path }) => (path.includes("/resolve/") ? { status: 302, headers: { location } } : undefined)
        return Effect.map(Effect.flip(fetch), ({ message }) => message)
      }
      assert.match(yield* to(`/${NAME}/resolve/${COMMIT}/x`), /redirects more than 5 times/)
      assert.match(yield* to("file:///etc/passwd"), /redirects to "file:/)
      assert.match(yield* to("http://[bad"), /redirects to "http:\/\/\[bad"/)
    }),
  )
})

describe("several who want the same", () => {
  it.live("fibers: one fetches, the others wait for it", () =>
    Effect.gen(function* () {
      const { server, cache, settings, wanted } = yield* prepare()
      server.fault = (request) => (isStorage(request) ? { pace: 1 } : undefined)
      const others = yield* Effect.forEach([1, 2, 3, 4], () => client(settings))
      const folders = yield* Effect.forEach(others, (hub) => hub.fetch(reference(), COMMIT, wanted, silent), {
        concurrency: "unbounded",
      })
      folders.forEach(isWhole)
      assert.strictEqual(bytesOf(server), SIZE)
      assert.deepStrictEqual(Fs.readdirSync(blobsOf(cache)), [sha256(WEIGHTS)])
    }),
  )

  it.live("paths of one content are fetched once", () =>
    Effect.gen(function* () {
      const twins = { ...repo, commits: { [COMMIT]: { "a.bin": WEIGHTS, "b.bin": WEIGHTS } } }
      const { server, settings } = yield* bench([twins])
      const hub = yield* client(settings)
      const { files } = yield* hub.resolve(reference())
      const folder = yield* hub.fetch(reference(), COMMIT, files, silent)
      for (const name of ["a.bin", "b.bin"]) assert.strictEqual(Fs.statSync(join(folder, name)).size, SIZE)
      assert.strictEqual(bytesOf(server), SIZE)
    }),
  )

  it.live("one gives up: another goes on from there", () =>
    Effect.gen(function* () {
      const { server, settings, hub, wanted } = yield* prepare()
      server.fault = (request) => (isStorage(request) ? { pace: 5 } : undefined)
      const seen = { done: 0 }
      const first = yield* Effect.forkChild(
        hub.fetch(reference(), COMMIT, wanted, (bytes) => Effect.sync(() => void (seen.done = bytes))),
      )
      while (seen.done < 300_000) yield* Effect.sleep(5)
      const other = yield* client(settings)
      const second = yield* Effect.forkChild(other.fetch(reference(), COMMIT, wanted, silent))
      yield* Effect.sleep(50)
      server.fault = () => undefined
      yield* Fiber.interrupt(first)
      isWhole(yield* Fiber.join(second))
      assert.match(served(server).at(-1)!.headers.range!, /^bytes=[3-9]\d{5}-/)
    }),
  )

  const child = (endpoint: string, cache: string) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const script = fileURLToPath(new URL("children/fetch.ts", import.meta.url))
        return spawn(process.execPath, [script, endpoint, cache, NAME], { stdio: ["ignore", "pipe", "inherit"] })
      }),
      (process) => Effect.sync(() => process.kill("SIGKILL")),
    )
  const lineOf = (process: ChildProcess) =>
    Effect.promise(() => new Promise<string>((done) => process.stdout!.once("data", (data) => done(`${data}`))))
  const endOf = (process: ChildProcess) =>
    Effect.promise(() => new Promise<number | null>((done) => process.once("exit", (code) => done(code))))

  it.live("processes: one fetches, all have it", () =>
    Effect.gen(function* () {
      const { server, cache } = yield* bench()
      server.fault = (request) => (isStorage(request) ? { pace: 3 } : undefined)
      const children = [yield* child(server.endpoint, cache), yield* child(server.endpoint, cache)]
      assert.deepStrictEqual(yield* Effect.forEach(children, endOf, { concurrency: "unbounded" }), [0, 0])
      isWhole(join(cache, "models--acme--tiny", "snapshots", COMMIT))
      const whole = [WEIGHTS, FILES["pytorch_model.bin"], FILES["onnx/model.bin"]]
      const once = whole.reduce((sum, { length }) => sum + length, 0)
      assert.strictEqual(bytesOf(server), once)
      assert.deepStrictEqual(partialsIn(cache), [])
    }),
  )

  it.live("a process that is killed leaves what it has to the next", () =>
    Effect.gen(function* () {
      const { server, cache, fetch } = yield* prepare()
      server.fault = (request) => (isStorage(request) ? { pace: 5 } : undefined)
      const killed = yield* child(server.endpoint, cache)
      assert.match(yield* lineOf(killed), /started/)
      const ended = yield* Effect.forkChild(endOf(killed))
      yield* Effect.sleep(1)
      killed.kill("SIGKILL")
      yield* Fiber.join(ended)
      server.fault = () => undefined
      isWhole(yield* fetch)
      assert.match(served(server).at(-1)!.headers.range!, /^bytes=\d{5,}-/)
      assert.isFalse(partialsIn(cache).some((name) => name.startsWith(sha256(WEIGHTS))))
    }),
  )
})
