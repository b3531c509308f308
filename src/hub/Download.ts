/**
 * One blob, from the hub into the cache.
 *
 * `@huggingface/hub` has `downloadFileToCacheDir`; this module does that work instead, because the library starts over
 * after every break, checks no digest, names a blob before it is whole, and asks for Xet chunks where plain HTTP has a
 * range. Here bytes go to disk as they come, in bounded memory; a break is followed by a request for the rest
 * (`Range`); and a file gets its final name only after its digest was checked and it was flushed.
 *
 * `If-Range` is sent to the hub alone, with the digest, which is the hub's own ETag of a file kept in git. Storage
 * behind a redirect has ETags of its own making. Bytes are safe regardless: partial files are named after the digest,
 * and the digest is taken over the whole file.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import type { Hash } from "node:crypto"
import * as Files from "node:fs/promises"
import { join } from "node:path"
import * as Digest from "./Digest.ts"
import * as Http from "./Http.ts"
import { BadAnswer, CacheError, type HubError, Interrupted, Tampered } from "./HubError.ts"
import * as Partial from "./Partial.ts"
import type { Reference } from "./Reference.ts"
import type { Settings } from "./Settings.ts"

export interface Target {
  readonly reference: Reference
  readonly commit: string
  readonly file: Digest.RepoFile
  /** The folder of blobs. */
  readonly blobs: string
  /** How many bytes of the file are there now; smaller than before when it had to start over. */
  readonly onBytes: (done: number) => Effect.Effect<void>
}

/** Got ahead: a connection that brings this much before it breaks does not count as a failed try. */
const AHEAD = 1 << 20
/** Milliseconds between two looks at what another process downloads. */
const LOOK = 200

/**
 * Downloads a blob that is not there. Another process or fiber that is already at it is waited for; then, or when some
 * other program brought the blob, it is `found` and its digest is for the caller to check.
 */
export const download = Effect.fn("Hub.download")(function* (
  settings: Settings,
  target: Target,
): Effect.fn.Return<"written" | "found", HubError> {
  const { blobs, file } = target
  const blob = join(blobs, file.digest.hex)
  while (true) {
    const outcome = yield* Effect.acquireUseRelease(
      Partial.take(blobs, file.digest.hex),
      (taken): Effect.Effect<"written" | "found" | { readonly writer: string }, HubError> => {
        if ("writer" in taken) return Effect.succeed(taken)
        // The one waited for may have finished between our look at the blob and our claim.
        if (Fs.existsSync(blob)) return Effect.succeed("found")
        return Effect.as(write(settings, target, taken.file, blob), "written")
      },
      (taken) =>
        "writer" in taken
          ? Effect.void
          : Effect.ignore(Effect.try(() => Partial.handOver(taken.file, blobs, file.digest.hex))),
    )
    if (typeof outcome === "string") return outcome
    while (!Fs.existsSync(blob)) {
      const done = Partial.progressOf(outcome.writer, file.digest.hex)
      if (done === undefined) break
      yield* target.onBytes(Math.min(done, file.size))
      yield* Effect.sleep(LOOK)
    }
    if (Fs.existsSync(blob)) return "found"
  }
})

/** Fills a partial file and gives it its final name. */
const write = Effect.fnUntraced(function* (
  settings: Settings,
  target: Target,
  partial: string,
  blob: string,
): Effect.fn.Return<void, HubError> {
  const { size } = target.file
  const failed = (cause: unknown) => new CacheError({ path: partial, reason: (cause as Error).message })
  const io = <A>(work: () => Promise<A>) => Effect.tryPromise({ try: work, catch: failed })
  yield* Effect.acquireUseRelease(
    io(() => Files.open(partial, "r+")),
    Effect.fnUntraced(function* (handle) {
      const found = (yield* io(() => handle.stat())).size
      const part: Part = { hash: Digest.start(target.file.digest.kind, size), done: 0, handle, io }
      if (found > 0 && found <= size) {
        yield* Digest.read(partial, found, (chunk) => part.hash.update(chunk))
        part.done = found
        yield* target.onBytes(found)
      } else {
        yield* io(() => handle.truncate(0))
      }
      const resumed = part.done > 0
      const checked = Effect.flatMap(fill(settings, target, part), () => check(settings, target, part))
      yield* checked.pipe(
        Effect.catchTag("Tampered", (error) => {
          // What was there before may be to blame: once more from nothing.
          const again = Effect.flatMap(restart(target, part), () => checked)
          return resumed ? again : Effect.fail(error)
        }),
        Effect.tapErrorTag("Tampered", () => restart(target, part)),
      )
      yield* io(() => handle.sync())
    }),
    (handle) => Effect.promise(() => handle.close()),
  ).pipe(Effect.raceFirst(beat(partial)))
  yield* io(() => Files.rename(partial, blob))
})

/** So that other machines see that we live, however long the server makes us wait. */
const beat = (partial: string): Effect.Effect<never> =>
  Effect.forever(Effect.delay(Effect.ignore(Effect.try(() => Partial.touch(partial))), Partial.BEAT))

interface Part {
  hash: Hash
  done: number
  readonly handle: Files.FileHandle
  readonly io: <A>(work: () => Promise<A>) => Effect.Effect<A, CacheError>
}

const restart = Effect.fnUntraced(function* (target: Target, part: Part) {
  yield* part.io(() => part.handle.truncate(0))
  part.hash = Digest.start(target.file.digest.kind, target.file.size)
  part.done = 0
  yield* target.onBytes(0)
})

const tampered = (settings: Settings, { reference, commit, file }: Target, expected: string, found: string) =>
  new Tampered({
    ...Http.where(settings, reference),
    file: file.path,
    at: Http.fileUrl(settings, reference, commit, file.path),
    expected,
    found,
    advice:
      "nothing of it was kept; if it happens again, the server or something before it changes files, or the lock is not of this commit",
  })

const check = (settings: Settings, target: Target, part: Part): Effect.Effect<void, Tampered> => {
  const found: Digest.Digest = { ...target.file.digest, hex: part.hash.digest("hex") }
  return found.hex === target.file.digest.hex
    ? Effect.void
    : Effect.fail(tampered(settings, target, Digest.show(target.file.digest), Digest.show(found)))
}

/** Requests until all bytes are there. */
const fill = (settings: Settings, target: Target, part: Part): Effect.Effect<void, HubError> => {
  let before = part.done
  const advanced = () => {
    const ahead = part.done - before >= AHEAD
    before = part.done
    return ahead
  }
  return Http.persist(settings.patience, request(settings, target, part), advanced)
}

const request = Effect.fnUntraced(function* (
  settings: Settings,
  target: Target,
  part: Part,
): Effect.fn.Return<void, HubError | Http.Transient> {
  const { reference, commit, file } = target
  const from = part.done
  if (from === file.size && from > 0) return
  const url = Http.fileUrl(settings, reference, commit, file.path)
  const range = from > 0 ? { range: `bytes=${from}-` } : {}
  const ifRange = from > 0 ? { "if-range": `"${file.digest.hex}"` } : {}
  const { response, hub } = yield* Http.send(settings, { reference, commit, file: file.path }, url, range, ifRange)
  const broken = (reason: string) =>
    new Http.Transient({
      error: () =>
        new Interrupted({
          ...Http.where(settings, reference),
          file: file.path,
          done: part.done,
          size: file.size,
          reason,
        }),
      wait: undefined,
    })
  const wrong = wrongWith(settings, target, from, response, hub)
  if (wrong !== undefined) {
    yield* Http.discard(response)
    return yield* Effect.fail(wrong)
  }
  // The whole file although only the rest was asked for, or no such rest.
  if (from > 0 && response.status !== 206) yield* restart(target, part)
  if (response.status === 416) {
    yield* Http.discard(response)
    return yield* broken(`the server has nothing from byte ${from} on`)
  }
  yield* Http.drain(response, settings.patience.silence, (chunk): Effect.Effect<void, CacheError | Tampered> =>
    part.done + chunk.length > file.size
      ? Effect.fail(tampered(settings, target, bytes(file.size), `more than ${bytes(file.size)}`))
      : append(target, part, chunk),
  ).pipe(Effect.catchTag("Cut", ({ reason }) => Effect.fail(broken(reason))))
  if (part.done < file.size) return yield* broken("the server ended it")
})

const bytes = (count: number) => `${count} bytes`

/** What an answer's head gives away, before gigabytes are fetched in vain. */
const wrongWith = (
  settings: Settings,
  target: Target,
  from: number,
  { status, headers }: Response,
  hub: Headers,
): BadAnswer | Tampered | undefined => {
  const { commit, file } = target
  const refuse = (reason: string) => new BadAnswer({ ...Http.where(settings, target.reference), reason })
  const differs = (expected: string, found: string) => tampered(settings, target, expected, found)
  const at = hub.get("x-repo-commit")
  if (at !== null && at !== commit)
    return refuse(`asked for commit ${commit}, the hub answers with ${JSON.stringify(at)}`)
  const linked = hub.get("x-linked-etag")?.replace(/^W\//, "").replaceAll('"', "")
  if (file.digest.kind === "sha256" && Digest.isHex("sha256", linked) && linked !== file.digest.hex) {
    return differs(Digest.show(file.digest), Digest.show({ kind: "sha256", hex: linked }))
  }
  if (status === 206) {
    const range = headers.get("content-range") ?? ""
    const [, first, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(range) ?? []
    if (Number(first) !== from) {
      return refuse(`asked for ${file.path} from byte ${from}, the hub answers with ${JSON.stringify(range)}`)
    }
    return total === "*" || Number(total) === file.size ? undefined : differs(bytes(file.size), `${total} bytes`)
  }
  const length = status === 200 && !headers.has("content-encoding") ? headers.get("content-length") : null
  return length === null || Number(length) === file.size ? undefined : differs(bytes(file.size), `${length} bytes`)
}

/** Written, counted and reported as one: an interruption leaves all three in step. */
const append = (target: Target, part: Part, chunk: Uint8Array) =>
  Effect.uninterruptible(
    Effect.gen(function* () {
      for (let sent = 0; sent < chunk.length;) {
        const { bytesWritten } = yield* part.io(() =>
          part.handle.write(chunk, sent, chunk.length - sent, part.done + sent),
        )
        sent += bytesWritten
      }
      part.hash.update(chunk)
      part.done += chunk.length
      yield* target.onBytes(part.done)
    }),
  )
