/** What the hub calls a file's content: SHA-256 for large files (LFS, Xet), git's blob id for those kept in git itself. */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as Fs from "node:fs/promises"
import { CacheError } from "./HubError.ts"

export interface Digest {
  readonly kind: "sha256" | "blob"
  /** 64 digits of a SHA-256, 40 of a blob id; the name of the blob in the cache. */
  readonly hex: string
}

/** A file of a repository at one commit. */
export interface RepoFile {
  /** Relative, with `/`, on every operating system. */
  readonly path: string
  readonly size: number
  readonly digest: Digest
}

export const show = ({ kind, hex }: Digest): string => `${kind === "sha256" ? "SHA-256" : "git blob"} ${hex}`

export const isHex = (kind: Digest["kind"], hex: unknown): hex is string =>
  typeof hex === "string" && (kind === "sha256" ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(hex)

/** A digest as it grows. Git's begins with the size, which must be known beforehand. */
export const start = (kind: Digest["kind"], size: number) =>
  kind === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${size}\0`)

const CHUNK = 1 << 20

/** Of the first `size` bytes of a file, in bounded memory. `each` sees the chunks as they pass. */
export const read = (
  path: string,
  size: number,
  each: (chunk: Uint8Array) => void,
): Effect.Effect<void, CacheError> => {
  const unreadable = (cause: unknown) => new CacheError({ path, reason: (cause as Error).message })
  return Effect.acquireUseRelease(
    Effect.tryPromise({ try: () => Fs.open(path, "r"), catch: unreadable }),
    Effect.fnUntraced(function* (file) {
      const buffer = Buffer.allocUnsafe(Math.min(CHUNK, size))
      for (let done = 0; done < size;) {
        const { bytesRead } = yield* Effect.tryPromise({
          try: () => file.read(buffer, 0, Math.min(buffer.length, size - done), done),
          catch: unreadable,
        })
        if (bytesRead === 0) return yield* new CacheError({ path, reason: `it ends at byte ${done} of ${size}` })
        each(buffer.subarray(0, bytesRead))
        done += bytesRead
      }
    }),
    (file) => Effect.promise(() => file.close()),
  )
}

/** Of a whole file of the given size. */
export const ofFile = (path: string, kind: Digest["kind"], size: number): Effect.Effect<Digest, CacheError> =>
  Effect.suspend(() => {
    const hash = start(kind, size)
    return Effect.map(
      read(path, size, (chunk) => hash.update(chunk)),
      () => ({ kind, hex: hash.digest("hex") }),
    )
  })
