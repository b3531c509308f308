/**
 * A server that speaks the hub's HTTP protocol, and a second one that stands for the storage it redirects to. Routes,
 * headers and status codes are those that huggingface_hub and @huggingface/hub read:
 *
 *     GET  /api/{models,datasets}/<name>/revision/<revision>        { id, sha, … }
 *     GET  /api/{models,datasets}/<name>/tree/<commit>?recursive    [{ type, oid, size, path, lfs? }], Link: rel="next"
 *     GET, HEAD  /[datasets/]<name>/resolve/<revision>/<path>       the file, or 302 to storage for those in LFS
 *     GET, HEAD  /api/resolve-cache/{models,datasets}/<name>/<commit>/<path>   where `resolveCache` sends for small files
 *
 * It counts what it serves, and misbehaves as it is told.
 */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as Http from "node:http"
import { gzipSync } from "node:zlib"
import type { AddressInfo } from "node:net"

export interface Repo {
  readonly kind: "model" | "dataset"
  readonly name: string
  /** Branches and tags to commits; commits themselves are found too. */
  readonly refs: { readonly [revision: string]: string }
  /** By commit. */
  readonly commits: { readonly [commit: string]: { readonly [path: string]: Uint8Array | string } }
  /** Whether a file is kept in LFS; by default those that git does not diff: weights, Parquet. */
  readonly lfs?: (path: string) => boolean
  /** Nobody but this token reads it. */
  readonly privateTo?: string
  /** Everybody sees it; nobody but this token reads its files. */
  readonly gatedTo?: string
}

export interface Request {
  readonly host: "hub" | "storage"
  readonly method: string
  readonly path: string
  readonly url: URL
  readonly headers: Http.IncomingHttpHeaders
  /** What was answered. */
  status: number
  /** Of the body, as far as it was sent. */
  bytes: number
}

/** How to misbehave in one answer. */
export interface Fault {
  readonly status?: number
  readonly headers?: { readonly [name: string]: string }
  readonly body?: string
  /** Ends the connection after so many bytes of the body. */
  readonly cutAfter?: number
  /** Other bytes than there are. */
  readonly tamper?: (bytes: Uint8Array) => Uint8Array
  /** Never answers. */
  readonly silent?: boolean
  /** Milliseconds after each 16 KiB. */
  readonly pace?: number
  /** Answers with the whole file whatever range was asked for. */
  readonly ignoreRange?: boolean
  /** Instead of a listing. */
  readonly listing?: unknown
}

export interface HubServer {
  readonly endpoint: string
  readonly storage: string
  readonly requests: Array<Request>
  /** Asked for every request, with how often its host and path were asked for before. */
  fault: (request: Request, before: number) => Fault | undefined
  /** Files in a page of a listing. */
  pageSize: number
  /** Whether small files are sent from elsewhere on the hub, compressed and without their length. */
  resolveCache: boolean
  /** Known to the hub; another token is refused as such. */
  readonly tokens: Set<string>
  /** Known once; refused with its name. */
  readonly expired: Set<string>
  readonly repos: Array<Repo>
}

const bytesOf = (content: Uint8Array | string) => (typeof content === "string" ? Buffer.from(content) : content)
const digests = new Map<Uint8Array | string, string>()
/** Taken once of each content: the server is asked often. */
export const sha256 = (content: Uint8Array | string): string => {
  const known = digests.get(content)
  if (known !== undefined) return known
  const digest = createHash("sha256").update(content).digest("hex")
  digests.set(content, digest)
  return digest
}
export const blobId = (content: Uint8Array | string): string => {
  const bytes = bytesOf(content)
  return createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex")
}
const inLfs = (path: string) => /\.(safetensors|bin|gguf|parquet)$/.test(path)

/** What a commit is called: any 40 digits do. */
export const commitOf = (name: string): string => createHash("sha1").update(name).digest("hex")

/** Bytes that are the same on every run. */
export const noise = (length: number, seed: number): Uint8Array => {
  const out = new Uint8Array(length)
  let state = seed * 2654435761 + 1
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    out[i] = state >>> 24
  }
  return out
}

export const open = (repos: ReadonlyArray<Repo>) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => start(repos)),
      ({ servers }) =>
        Effect.promise(async () => {
          for (const server of servers) server.closeAllConnections()
          await Promise.all(servers.map((server) => new Promise((done) => server.close(done))))
        }),
    ),
    ({ hub }) => hub,
  )

const start = async (repos: ReadonlyArray<Repo>) => {
  const counts = new Map<string, number>()
  const listen = async (host: Request["host"], answer: Answer) => {
    const server = Http.createServer((request, response) => {
      const url = new URL(request.url!, `http://${request.headers.host}`)
      const path = decodeURIComponent(url.pathname)
      const noted: Request = { host, method: request.method!, path, url, headers: request.headers, status: 0, bytes: 0 }
      hub.requests.push(noted)
      const before = counts.get(`${host} ${path}`) ?? 0
      counts.set(`${host} ${path}`, before + 1)
      const fault = hub.fault(noted, before) ?? {}
      if (fault.silent) return
      void send(noted, response, fault, { ...answer(noted, fault), ...("status" in fault && refused(fault)) })
    })
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done))
    return { server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
  }
  const storage = await listen("storage", ({ path, headers, url }, fault) => {
    const content = path.startsWith("/lfs/") ? stored(hub.repos).get(path.slice(5)) : undefined
    // Signed addresses are refused together with a token, as S3 does.
    if (content === undefined || !url.searchParams.has("signature")) return { status: 403 }
    if (headers.authorization !== undefined) return { status: 400, body: "Only one auth mechanism allowed" }
    return ranged(content, headers, fault, `${sha256(content).slice(0, 20)}-1`)
  })
  const main = await listen("hub", (request, fault) => hubAnswer(hub, request, fault))
  const hub: HubServer = {
    endpoint: main.origin,
    storage: storage.origin,
    requests: [],
    fault: () => undefined,
    pageSize: 1000,
    resolveCache: false,
    tokens: new Set(),
    expired: new Set(),
    repos: [...repos],
  }
  return { hub, servers: [main.server, storage.server] }
}

interface Reply {
  readonly status: number
  readonly headers?: { readonly [name: string]: string }
  readonly body?: Uint8Array | string
}
type Answer = (request: Request, fault: Fault) => Reply

const refused = ({ status, headers, body }: Fault): Reply => ({
  status: status!,
  ...(headers !== undefined && { headers }),
  body: body ?? "",
})

const stored = (repos: ReadonlyArray<Repo>): ReadonlyMap<string, Uint8Array> =>
  new Map(
    repos.flatMap(({ commits }) =>
      Object.values(commits).flatMap((files) =>
        Object.values(files).map((content) => [sha256(content), bytesOf(content)] as const),
      ),
    ),
  )

const send = async (request: Request, response: Http.ServerResponse, fault: Fault, reply: Reply) => {
  const whole = bytesOf(reply.body ?? "")
  const body = fault.tamper === undefined || reply.status >= 300 ? whole : fault.tamper(whole)
  request.status = reply.status
  const length = reply.headers?.["content-encoding"] === undefined ? { "content-length": body.length } : {}
  response.writeHead(reply.status, { ...length, ...reply.headers, ...fault.headers })
  if (request.method === "HEAD") return response.end()
  const end = Math.min(body.length, fault.cutAfter ?? Infinity)
  for (let at = 0; at < end && !response.destroyed; at += 16384) {
    const chunk = body.subarray(at, Math.min(end, at + 16384))
    request.bytes += chunk.length
    // Until the system has taken it: what was counted was sent.
    await new Promise<void>((done) => response.write(chunk, () => done()))
    if (fault.pace !== undefined) await new Promise((done) => setTimeout(done, fault.pace))
  }
  if (end < body.length) return setTimeout(() => response.destroy(), 20)
  return response.end()
}

const ranged = (content: Uint8Array, headers: Http.IncomingHttpHeaders, fault: Fault, etag: string): Reply => {
  const common = { etag: `"${etag}"`, "accept-ranges": "bytes" }
  const [, first] = /^bytes=(\d+)-$/.exec(headers.range ?? "") ?? []
  const stale = headers["if-range"] !== undefined && headers["if-range"] !== `"${etag}"`
  if (first === undefined || stale || fault.ignoreRange) return { status: 200, headers: common, body: content }
  const from = Number(first)
  if (from >= content.length) return { status: 416, headers: { "content-range": `bytes */${content.length}` } }
  const range = `bytes ${from}-${content.length - 1}/${content.length}`
  return { status: 206, headers: { ...common, "content-range": range }, body: content.subarray(from) }
}

const error = (status: number, code: string, message: string): Reply => ({
  status,
  headers: { "x-error-code": code, "x-error-message": message, "content-type": "application/json" },
  body: JSON.stringify({ error: message }),
})
const json = (body: unknown, headers: { readonly [name: string]: string } = {}): Reply => ({
  status: 200,
  headers: { "content-type": "application/json; charset=utf-8", ...headers },
  body: JSON.stringify(body),
})

const hubAnswer = (hub: HubServer, request: Request, fault: Fault): Reply => {
  const { path, url, headers } = request
  const token = headers.authorization?.replace(/^Bearer /, "")
  if (token !== undefined && hub.expired.has(token)) {
    return error(401, "", 'User Access Token "laptop" is expired')
  }
  if (token !== undefined && !hub.tokens.has(token)) {
    return error(401, "", "Invalid credentials in Authorization header")
  }
  const missing = (): Reply =>
    token === undefined
      ? error(401, "RepoNotFound", "Invalid username or password.")
      : error(404, "RepoNotFound", "Repository not found")
  const [, cacheKind, cached] = /^\/api\/resolve-cache\/(model|dataset)s\/(.*)$/.exec(path) ?? []
  if (cached !== undefined) {
    const repo = hub.repos.find((repo) => repo.kind === cacheKind && cached.startsWith(`${repo.name}/`))
    const [, commit, file] = /^([0-9a-f]{40})\/(.*)$/.exec(cached.slice((repo?.name.length ?? 0) + 1)) ?? []
    const content = repo?.commits[commit ?? ""]?.[file ?? ""]
    if (content === undefined) return error(404, "EntryNotFound", "Entry not found")
    if (url.searchParams.get("etag") !== `"${blobId(content)}"`) return { status: 400, body: "Bad etag" }
    const common = { "x-repo-commit": commit!, vary: "Accept-Encoding" }
    const reply = ranged(bytesOf(content), headers, fault, blobId(content))
    return reply.status === 200
      ? {
          status: 200,
          headers: { ...reply.headers, ...common, etag: `W/"${blobId(content)}"`, "content-encoding": "gzip" },
          body: gzipSync(bytesOf(content)),
        }
      : { ...reply, headers: { ...reply.headers, ...common } }
  }
  const [, apiKind, api] = /^\/api\/(model|dataset)s\/(.*)$/.exec(path) ?? []
  const isData = path.startsWith("/datasets/")
  const kind = apiKind ?? (isData ? "dataset" : "model")
  const rest = api ?? path.slice(isData ? "/datasets/".length : 1)
  const repo = hub.repos.find((repo) => repo.kind === kind && rest.startsWith(`${repo.name}/`))
  if (repo === undefined) return missing()
  if (repo.privateTo !== undefined && repo.privateTo !== token) return missing()
  const [action, ...steps] = rest.slice(repo.name.length + 1).split("/")
  const revisions = { ...repo.refs, ...Object.fromEntries(Object.keys(repo.commits).map((one) => [one, one])) }
  const asked = steps.join("/")
  const revision = Object.keys(revisions)
    .toSorted((a, b) => b.length - a.length)
    .find((one) => asked === one || asked.startsWith(`${one}/`))
  if (revision === undefined) return error(404, "RevisionNotFound", `Invalid rev id: ${asked}`)
  const commit = revisions[revision]!
  const files = repo.commits[commit]!
  const lfs = repo.lfs ?? inLfs
  if (api !== undefined && action === "revision") {
    return json({ _id: "0", id: repo.name, sha: commit, private: false, gated: repo.gatedTo !== undefined })
  }
  if (api !== undefined && action === "tree") {
    if (fault.listing !== undefined) return json(fault.listing)
    const entries = Object.entries(files).map(([path, content]) => {
      const size = bytesOf(content).length
      if (!lfs(path)) return { type: "file", oid: blobId(content), size, path }
      const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256(content)}\nsize ${size}\n`
      const large = { oid: sha256(content), size, pointerSize: pointer.length }
      return { type: "file", oid: blobId(pointer), size, path, lfs: large, xetHash: sha256(`xet ${path}`) }
    })
    const folders = [...new Set(Object.keys(files).flatMap((path) => path.split("/").slice(0, -1)))]
    const all = [...folders.map((path) => ({ type: "directory", oid: commitOf(path), size: 0, path })), ...entries]
    const from = Number(url.searchParams.get("cursor") ?? 0)
    const next = from + hub.pageSize
    url.searchParams.set("cursor", `${next}`)
    const link = next < all.length ? { link: `<${url.href}>; rel="next"` } : {}
    return json(all.slice(from, next), link)
  }
  if (api !== undefined || action !== "resolve") return { status: 404, body: "Not found" }
  const file = asked.slice(revision.length + 1)
  if (repo.gatedTo !== undefined && repo.gatedTo !== token) {
    const message = `Access to model ${repo.name} is restricted and you are not in the authorized list.`
    return error(token === undefined ? 401 : 403, "GatedRepo", message)
  }
  const content = Object.hasOwn(files, file) ? files[file]! : undefined
  if (content === undefined) return error(404, "EntryNotFound", "Entry not found")
  const bytes = bytesOf(content)
  const common = { "x-repo-commit": commit }
  if (!lfs(file) && hub.resolveCache) {
    const at = [repo.name, commit, ...file.split("/").map(encodeURIComponent)].join("/")
    const etag = encodeURIComponent(`"${blobId(content)}"`)
    return {
      status: 307,
      headers: {
        ...common,
        "x-linked-size": `${bytes.length}`,
        location: `/api/resolve-cache/${kind}s/${at}?${encodeURIComponent(path)}=&etag=${etag}`,
      },
      body: "Temporary Redirect",
    }
  }
  if (!lfs(file)) {
    const reply = ranged(bytes, headers, fault, blobId(content))
    return { ...reply, headers: { ...reply.headers, ...common } }
  }
  return {
    status: 302,
    headers: {
      ...common,
      "x-linked-size": `${bytes.length}`,
      "x-linked-etag": `"${sha256(content)}"`,
      "x-xet-hash": sha256(`xet ${file}`),
      location: `${hub.storage}/lfs/${sha256(content)}?signature=abc`,
    },
    body: "Found. Redirecting",
  }
}
