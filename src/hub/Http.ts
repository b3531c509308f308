/**
 * Requests to a hub: redirects, retries, and what a refusal means.
 *
 * The hub answers for large files with a redirect to another host, whose signed address needs no token. Redirects are
 * therefore followed here, hop by hop: the token goes to the hub's own origin and nowhere else, and never from https to
 * http. A busy or failing server is asked again a bounded number of times, after the pause that it names.
 *
 * A mirror (HF_ENDPOINT) hands on much of what the hub itself says, also its addresses, and now and then sends us there.
 * Listings may therefore come from the hub as well as from the endpoint. The token is the endpoint's alone.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { BadAnswer, BadToken, GatedRepo, HubError, isHubError, MissingFile, MissingRepo } from "./HubError.ts"
import { MissingRevision, RateLimited, ServerFailed, Unreachable } from "./HubError.ts"
import * as Proxy from "./Proxy.ts"
import { show, type Reference } from "./Reference.ts"
import type { Patience, Settings } from "./Settings.ts"

/** What a request is about, for its errors. */
export interface Subject {
  readonly reference: Reference
  readonly commit?: string
  readonly file?: string
}

/** Worth another try, after `wait` milliseconds where the server says so. */
export class Transient extends Data.TaggedError("Transient")<{
  readonly error: (attempts: number) => HubError
  readonly wait: number | undefined
}> {}

/** A body that broke off. */
export class Cut extends Data.TaggedError("Cut")<{ readonly reason: string }> {}

/** `datasets/owner/name`, as pages and downloads spell it. */
const slug = ({ kind, name }: Reference) => (kind === "model" ? name : `datasets/${name}`)

export const where = ({ endpoint }: Settings, reference: Reference) => ({
  source: show(reference),
  page: `${endpoint}/${slug(reference)}`,
})

/** Where the bytes of a file are asked for. */
export const fileUrl = ({ endpoint }: Settings, reference: Reference, commit: string, path: string): string =>
  `${endpoint}/${slug(reference)}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`

const REDIRECTS = new Set([301, 302, 303, 307, 308])
const BUSY = new Set([408, 425, 429, 500, 502, 503, 504])
const MAX_HOPS = 5
/** Where the hub itself is, whatever the endpoint. */
const OFFICIAL: ReadonlySet<string> = new Set(["https://huggingface.co", "https://hf.co"])

export interface Answer {
  /** 2xx, or 416 where a range was asked for. */
  readonly response: Response
  /** Of the hub's own answer, which names the content even where it redirects. */
  readonly hub: Headers
  /** Where it came from in the end. */
  readonly origin: string
}

/** One try. `atHub` are headers for the hub alone. */
export const send = Effect.fnUntraced(function* (
  settings: Settings,
  subject: Subject,
  url: string,
  headers: { readonly [name: string]: string },
  atHub: { readonly [name: string]: string },
): Effect.fn.Return<Answer, HubError | Transient> {
  const about = where(settings, subject.reference)
  const home = new URL(settings.endpoint)
  let at = new URL(url)
  let hub = new Headers()
  for (let hop = 0; hop <= MAX_HOPS; hop++) {
    const isHome = at.origin === home.origin
    const isHub = isHome || OFFICIAL.has(at.origin)
    const token = isHome ? settings.token : undefined
    const response = yield* connect(settings, subject, at, {
      "user-agent": "assay",
      "accept-encoding": "identity",
      ...headers,
      ...(isHome && atHub),
      ...(token !== undefined && { authorization: `Bearer ${Redacted.value(token)}` }),
    })
    if (isHub) hub = response.headers
    const location = REDIRECTS.has(response.status) ? response.headers.get("location") : null
    if (location === null) {
      if (response.ok || (response.status === 416 && "range" in headers)) return { response, hub, origin: at.origin }
      yield* discard(response)
      return yield* refusal(settings, subject, at, response, isHub, isHome)
    }
    yield* discard(response)
    const next = URL.parse(location, at.href)
    const isWeb = next !== null && (next.protocol === "https:" || next.protocol === home.protocol)
    if (!isWeb) return yield* new BadAnswer({ ...about, reason: `the hub redirects to ${JSON.stringify(location)}` })
    at = next
  }
  return yield* new BadAnswer({ ...about, reason: `${url} redirects more than ${MAX_HOPS} times` })
})

/** Lets go of a body that is not read. */
export const discard = (response: Response) => Effect.sync(() => void response.body?.cancel().catch(() => {}))

/** An error of `fetch` says "fetch failed" or "terminated"; what happened is its cause. */
const reasonOf = (cause: unknown): string => {
  const error = cause as Error & { readonly cause?: Error & { readonly code?: string } }
  return error.cause?.message || error.cause?.code || error.message
}

const unreachable = (settings: Settings, { reference }: Subject, url: URL, reason: string) =>
  new Unreachable({
    ...where(settings, reference),
    // Without the query: it may hold a signature.
    url: url.origin + url.pathname,
    reason,
    advice: Proxy.advice(settings, reason),
  })

const connect = (
  settings: Settings,
  subject: Subject,
  url: URL,
  headers: { readonly [name: string]: string },
): Effect.Effect<Response, Transient | Unreachable> => {
  const { silence } = settings.patience
  const broken = (reason: string) =>
    new Transient({ error: () => unreachable(settings, subject, url, reason), wait: undefined })
  const problem = Proxy.use(settings)
  if (problem !== undefined) return Effect.fail(unreachable(settings, subject, url, problem))
  return Effect.tryPromise({
    try: (signal) => fetch(url, { headers, redirect: "manual", signal }),
    catch: (cause) => broken(reasonOf(cause)),
  }).pipe(
    Effect.timeoutOrElse({
      duration: silence,
      orElse: () => Effect.fail(broken(`no answer within ${silence / 1000} s`)),
    }),
  )
}

/** Text of a server on its way to a terminal: nothing that moves the cursor or turns the line around. */
const plain = (text: string | null) =>
  (text ?? "")
    .slice(0, 300)
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, " ")
    .trim()

const refusal = (
  settings: Settings,
  { reference, commit, file }: Subject,
  at: URL,
  { status, headers }: Response,
  isHub: boolean,
  isHome: boolean,
): Effect.Effect<never, HubError | Transient> => {
  const about = where(settings, reference)
  const token = settings.token !== undefined
  const code = isHub ? headers.get("x-error-code") : null
  const reason = saidBy(settings, isHub ? headers : new Headers())
  const url = at.origin + at.pathname
  const failed = () => new ServerFailed({ ...about, url, status, reason })
  if (BUSY.has(status)) {
    const wait = waitOf(headers)
    const seconds = Math.ceil((wait ?? 0) / 1000)
    const error = (attempts: number) => (status === 429 ? new RateLimited({ ...about, seconds, attempts }) : failed())
    return Effect.fail(new Transient({ error, wait }))
  }
  // A signed address that has run out; the hub gives a new one.
  if (!isHub && status === 403) return Effect.fail(new Transient({ error: failed, wait: undefined }))
  // Before all else: with such a token the hub refuses everything, each thing in words of its own.
  if (token && isHome && status === 401 && /invalid credentials|token .*expired/i.test(reason)) {
    return Effect.fail(new BadToken({ ...about, reason }))
  }
  if (code === "GatedRepo") return Effect.fail(new GatedRepo({ ...about, token, reason }))
  if (code === "RevisionNotFound") {
    return Effect.fail(new MissingRevision({ ...about, revision: commit ?? reference.revision }))
  }
  if (file !== undefined && (code === "EntryNotFound" || (isHub && status === 404 && code === null))) {
    return Effect.fail(new MissingFile({ ...about, file, commit: commit ?? reference.revision }))
  }
  // Without permission to know, the hub says 401 of what is missing and of what is private.
  if (code === "RepoNotFound" || (isHub && (status === 401 || status === 404))) {
    return Effect.fail(new MissingRepo({ ...about, token, reason }))
  }
  return Effect.fail(failed())
}

/** What the hub says of its refusal. A token that it repeats is not repeated here. */
const saidBy = ({ token }: Settings, headers: Headers): string => {
  const message = headers.get("x-error-message") ?? ""
  return plain(token === undefined ? message : message.replaceAll(Redacted.value(token), "…"))
}

/** Milliseconds, from `Retry-After` (seconds or a date) or the hub's own `RateLimit: "api";r=0;t=55`. */
const waitOf = (headers: Headers): number | undefined => {
  const after = headers.get("retry-after")
  if (after !== null && /^\s*\d+\s*$/.test(after)) return Number(after) * 1000
  const date = after === null ? Number.NaN : Date.parse(after)
  if (!Number.isNaN(date)) return Math.max(0, date - Date.now())
  const [, empty] = /;\s*r=0\s*;\s*t=(\d+)/.exec(headers.get("ratelimit") ?? "") ?? []
  return empty === undefined ? undefined : Number(empty) * 1000
}

/** Tries again what may succeed another time. `advanced`: whether the last try got ahead, so that the count begins anew. */
export const persist = Effect.fnUntraced(function* <A>(
  { attempts, pause, longest }: Patience,
  attempt: Effect.Effect<A, HubError | Transient>,
  advanced: () => boolean,
): Effect.fn.Return<A, HubError> {
  for (let tries = 1; ; tries++) {
    const result = yield* Effect.result(attempt)
    if (result._tag === "Success") return result.success
    const { failure } = result
    if (failure._tag !== "Transient") return yield* Effect.fail(failure)
    if (advanced()) tries = 1
    const wait = Math.max(failure.wait ?? 0, pause * 2 ** Math.min(tries - 1, 5))
    if (tries >= attempts || wait > Math.max(longest, pause * 32)) return yield* Effect.fail(failure.error(tries))
    yield* Effect.sleep(wait)
  }
})

/** A body, chunk by chunk. It is given up when `each` fails, and when nothing comes for `silence` milliseconds. */
export const drain = <E>(
  response: Response,
  silence: number,
  each: (chunk: Uint8Array) => Effect.Effect<void, E>,
): Effect.Effect<void, E | Cut> =>
  response.body === null
    ? Effect.void
    : Effect.acquireUseRelease(
        Effect.sync(() => response.body!.getReader()),
        Effect.fnUntraced(function* (reader) {
          while (true) {
            const { done, value } = yield* Effect.tryPromise({
              try: () => reader.read(),
              catch: (cause) => new Cut({ reason: reasonOf(cause) }),
            }).pipe(
              Effect.timeoutOrElse({
                duration: silence,
                orElse: () => Effect.fail(new Cut({ reason: `nothing came for ${silence / 1000} s` })),
              }),
            )
            if (done) return
            yield* each(value as Uint8Array)
          }
        }),
        (reader) => Effect.sync(() => void reader.cancel().catch(() => {})),
      )

/** Listings come in pages of a thousand files. */
const MAX_ANSWER = 64 << 20

/** A page that the hub names by its own address is asked for at the endpoint, as huggingface_hub does it. */
const atEndpoint = ({ endpoint }: Settings, url: URL): URL =>
  OFFICIAL.has(url.origin) ? new URL(endpoint + url.pathname + url.search) : url

/** A `fetch` for the hub's API, for libraries that bring their own addresses: whole answers, of the hub only. */
const apiFetch = Effect.fnUntraced(function* (settings: Settings, subject: Subject, url: URL) {
  const about = where(settings, subject.reference)
  const { origin } = new URL(settings.endpoint)
  const astray = (to: string) => new BadAnswer({ ...about, reason: `the hub sends us to ${to} for its own listing` })
  if (url.origin !== origin) return yield* astray(url.origin)
  const whole = Effect.gen(function* () {
    const { response, origin: from } = yield* send(settings, subject, url.href, { accept: "application/json" }, {})
    if (from !== origin && !OFFICIAL.has(from)) {
      yield* discard(response)
      return yield* astray(from)
    }
    const chunks: Array<Uint8Array> = []
    let length = 0
    yield* drain(response, settings.patience.silence, (chunk) => {
      chunks.push(chunk)
      length += chunk.length
      return length > MAX_ANSWER
        ? Effect.fail(new BadAnswer({ ...about, reason: `${url.pathname} answers with more than ${MAX_ANSWER} bytes` }))
        : Effect.void
    }).pipe(
      Effect.catchTag("Cut", ({ reason }) =>
        Effect.fail(new Transient({ error: () => unreachable(settings, subject, url, reason), wait: undefined })),
      ),
    )
    return new Response(Buffer.concat(chunks), { status: 200, headers: response.headers })
  })
  return yield* persist(settings.patience, whole, () => false)
})

const MAX_PAGES = 2_000

/** Calls of `@huggingface/hub`, with our requests under them. What the library itself throws is the answer's fault. */
export const viaLibrary = <A>(
  settings: Settings,
  subject: Subject,
  use: (fetch: typeof globalThis.fetch) => Promise<A>,
): Effect.Effect<A, HubError> =>
  Effect.flatMap(Effect.context<never>(), (context: Context.Context<never>) => {
    const about = where(settings, subject.reference)
    const asked = new Set<string>()
    const once = (named: URL) => {
      const url = atEndpoint(settings, named)
      if (asked.has(url.href) || asked.size === MAX_PAGES) {
        return Effect.fail(new BadAnswer({ ...about, reason: `the hub's listing does not end (${url.pathname})` }))
      }
      asked.add(url.href)
      return apiFetch(settings, subject, url)
    }
    return Effect.tryPromise({
      try: (signal) =>
        use((input) => {
          const url = new URL(input instanceof Request ? input.url : input)
          return Effect.runPromiseWith(context)(once(url), { signal })
        }),
      catch: (cause) =>
        isHubError(cause)
          ? cause
          : new BadAnswer({ ...about, reason: `the hub's answer makes no sense: ${plain((cause as Error).message)}` }),
    })
  })
