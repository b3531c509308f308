/** Every way in which a hub can say no: what, where, and what to do. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { RepoFile } from "../../src/hub/Digest.ts"
import { blobId, type Fault, type Repo, type Request } from "../support/hubServer.ts"
import { bench, client, COMMIT, FILES, NAME, reference, repo, silent, withToken } from "./fixtures.ts"

const config: RepoFile = {
  path: "config.json",
  size: 22,
  digest: { kind: "blob", hex: blobId(FILES["config.json"]) },
}
interface Case {
  readonly repo?: Partial<Repo>
  readonly token?: string
  readonly known?: boolean
  readonly expired?: boolean
  readonly source?: string
  readonly file?: RepoFile
  readonly fault?: (request: Request, before: number) => Fault | undefined
}

/** The error of resolving, then fetching, and how many requests it took. */
const refused = Effect.fnUntraced(function* (given: Case) {
  const { server, settings } = yield* bench([{ ...repo, ...given.repo }])
  if (given.token !== undefined && given.known !== false) server.tokens.add(given.token)
  if (given.token !== undefined && given.expired === true) server.expired.add(given.token)
  if (given.fault !== undefined) server.fault = given.fault
  const hub = yield* client(given.token === undefined ? settings : withToken(settings, given.token))
  const wanted = reference(given.source ?? `hub:${NAME}`)
  const error = yield* Effect.flip(
    Effect.flatMap(hub.resolve(wanted), ({ commit }) => hub.fetch(wanted, commit, [given.file ?? config], silent)),
  )
  assert.notInclude(`${error.message} ${JSON.stringify(error)}`, "hf_")
  return { error, server }
})

const cases: ReadonlyArray<readonly [what: string, given: Case, tag: string, message: RegExp]> = [
  [
    "a gated repository, without a token",
    { repo: { gatedTo: "hf_a" } },
    "GatedRepo",
    /^hub:acme\/tiny@main is gated: its owner decides who may read http:\S+\/acme\/tiny \(the hub says: Access to model acme\/tiny is restricted .*\); accept its conditions there with your account, and run `hf auth login` or set HF_TOKEN/,
  ],
  [
    "a gated repository, with a token that may not",
    { repo: { gatedTo: "hf_a" }, token: "hf_b" },
    "GatedRepo",
    /the account of the token in use has not been granted access/,
  ],
  [
    "a repository that does not exist",
    { source: "hub:acme/none" },
    "MissingRepo",
    /^hub:acme\/none@main: there is no http:\S+\/acme\/none, or it is private \(the hub says: Invalid username or password.\); check the name, or run `hf auth login` or set HF_TOKEN/,
  ],
  [
    "a repository that does not exist, with a token",
    { source: "hub:acme/none", token: "hf_a" },
    "MissingRepo",
    /use a token that may read it/,
  ],
  ["a private repository", { repo: { privateTo: "hf_a" } }, "MissingRepo", /or it is private/],
  [
    "a data set that does not exist",
    { source: "hub-data:acme/tiny" },
    "MissingRepo",
    /there is no http:\S+\/datasets\/acme\/tiny/,
  ],
  [
    "a revision that does not exist",
    { source: `hub:${NAME}@v9` },
    "MissingRevision",
    /^hub:acme\/tiny@v9: http:\S+\/acme\/tiny has no revision 'v9'; write one of its branches or tags/,
  ],
  [
    "a file that does not exist",
    { file: { ...config, path: "nope.json" } },
    "MissingFile",
    new RegExp(`has no file nope.json at commit ${COMMIT}; check the name`),
  ],
  [
    "a token that the hub does not know",
    { token: "hf_old", known: false },
    "BadToken",
    /does not accept the token in use \(the hub says: Invalid credentials in Authorization header\); get a new one with `hf auth login`/,
  ],
  [
    "a token that has run out, also for what is public",
    { token: "hf_old", expired: true },
    "BadToken",
    /does not accept the token in use \(the hub says: User Access Token "laptop" is expired\); get a new one with `hf auth login`/,
  ],
  [
    "a token that has run out, whatever code goes with it",
    {
      token: "hf_old",
      fault: () => ({
        status: 401,
        headers: { "x-error-code": "RepoNotFound", "x-error-message": "Token hf_old has expired" },
      }),
    },
    "BadToken",
    /the hub says: Token … has expired/,
  ],
  [
    "a gated repository, in words that are long and not fit for a terminal",
    {
      fault: () => ({
        status: 403,
        headers: { "x-error-code": "GatedRepo", "x-error-message": `no\u009b31m${"x".repeat(1000)}` },
      }),
    },
    "GatedRepo",
    /\(the hub says: no 31mx{294}\); accept/,
  ],
  [
    "a token without the permission",
    { fault: () => ({ status: 403, headers: { "x-error-message": "no\u009b31m access" } }) },
    "ServerFailed",
    /answers with status 403 \(no 31m access\)/,
  ],
]

describe("refused is", () => {
  for (const [what, given, tag, message] of cases) {
    it.live(what, () =>
      Effect.gen(function* () {
        const { error } = yield* refused(given)
        assert.strictEqual(error._tag, tag)
        assert.match(error.message, message)
      }),
    )
  }
})

describe("a busy hub", () => {
  const busy = (headers: { readonly [name: string]: string }, times: number) => (request: Request, before: number) =>
    request.path.includes("/revision/") && before < times ? { status: 429, headers } : undefined

  it.live("is waited for as long as it says", () =>
    Effect.gen(function* () {
      for (const headers of [{ "retry-after": "1" }, { ratelimit: '"api";r=0;t=1' }] as const) {
        const { server, settings } = yield* bench()
        server.fault = busy(headers as { readonly [name: string]: string }, 1)
        const began = performance.now()
        const { commit } = yield* (yield* client(settings)).resolve(reference())
        assert.strictEqual(commit, COMMIT)
        assert.isAbove(performance.now() - began, 990)
      }
    }),
  )

  it.live("is asked a bounded number of times", () =>
    Effect.gen(function* () {
      const { error, server } = yield* refused({ fault: busy({ "retry-after": "0" }, Infinity) })
      assert.strictEqual(error._tag, "RateLimited")
      assert.match(error.message, /refuses more requests for now \(asked 3 times; it says to wait 0 s\)/)
      assert.strictEqual(server.requests.length, 3)
    }),
  )

  it.live("is not waited for longer than is reasonable", () =>
    Effect.gen(function* () {
      const later = new Date(Date.now() + 3_600_000).toUTCString()
      for (const wait of ["3600", later]) {
        const { error, server } = yield* refused({ fault: busy({ "retry-after": wait }, Infinity) })
        assert.match(error.message, /asked once; it says to wait 3(600|599) s\); run again later/)
        assert.strictEqual(server.requests.length, 1)
      }
    }),
  )

  it.live("is waited for in the middle of a download, too", () =>
    Effect.gen(function* () {
      const { server, settings } = yield* bench()
      const hub = yield* client(settings)
      const { files } = yield* hub.resolve(reference())
      server.fault = ({ path }, before) => (path.includes("/resolve/") && before < 2 ? { status: 429 } : undefined)
      yield* hub.fetch(reference(), COMMIT, files, silent)
    }),
  )
})

describe("a failing hub", () => {
  it.live("is tried again, then named with its status", () =>
    Effect.gen(function* () {
      for (const status of [500, 502, 503, 504]) {
        const { server, settings } = yield* bench()
        server.fault = (_, before) => (before < 2 ? { status } : undefined)
        assert.strictEqual((yield* (yield* client(settings)).resolve(reference())).commit, COMMIT)
      }
      const { error, server } = yield* refused({ fault: () => ({ status: 503 }) })
      assert.strictEqual(error._tag, "ServerFailed")
      assert.match(
        error.message,
        /http:\S+\/api\/models\/acme\/tiny\/revision\/main answers with status 503; run again later/,
      )
      assert.strictEqual(server.requests.length, 3)
    }),
  )

  it.live("is told from one that cannot be reached", () =>
    Effect.gen(function* () {
      const { settings } = yield* Effect.scoped(bench())
      const nobody = yield* client(settings)
      const error = yield* Effect.flip(nobody.resolve(reference()))
      assert.strictEqual(error._tag, "Unreachable")
      assert.match(error.message, /http:\/\/127.0.0.1:\d+\/\S+ cannot be reached: .*ECONNREFUSED.*HF_HUB_OFFLINE=1/)
    }),
  )

  it.live("that cuts its listing off is tried again", () =>
    Effect.gen(function* () {
      const { server, settings } = yield* bench()
      server.fault = ({ path }, before) => (path.includes("/tree/") && before === 0 ? { cutAfter: 50 } : undefined)
      assert.strictEqual((yield* (yield* client(settings)).resolve(reference())).files.length, 8)
    }),
  )

  it.live("whose signed addresses run out gives new ones", () =>
    Effect.gen(function* () {
      const { server, settings } = yield* bench()
      const hub = yield* client(settings)
      const { files } = yield* hub.resolve(reference())
      server.fault = ({ host }, before) => (host === "storage" && before === 0 ? { status: 403 } : undefined)
      yield* hub.fetch(reference(), COMMIT, files, silent)
      const asked = server.requests.filter(({ path }) => path.endsWith("/model.safetensors"))
      assert.strictEqual(asked.length, 2)
    }),
  )
})
