/**
 * SHA-256 of files, remembered by device, inode, size and both time stamps. A file touched less than two seconds before
 * it was looked at is not trusted: time stamps are coarse, and it may change again without showing it.
 */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import { type BigIntStats, statSync } from "node:fs"
import { open } from "node:fs/promises"
import { decode, encode, key, Kind, sha256 } from "./Codec.ts"
import type { Database } from "./Database.ts"
import { StoreError } from "./StoreError.ts"

const racy = 2_000_000_000n // nanoseconds
const sliceSize = 4 << 20

/** Everything that changes with the content; equal states are taken for equal content. */
const stateOf = (stat: BigIntStats) => `${stat.dev} ${stat.ino} ${stat.size} ${stat.mtimeNs} ${stat.ctimeNs}`

const stat = (path: string): BigIntStats | undefined => {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat?.isFile() ? stat : undefined
}
const place = (stat: BigIntStats) => key(Kind.file, sha256(`${stat.dev} ${stat.ino}`))

const recall = (index: Database, stat: BigIntStats): string | undefined => {
  const at = place(stat)
  const record = index.get(at)
  const [state, digest] = (record && decode(at, record)?.toString().split("\n")) ?? []
  return state === stateOf(stat) ? digest : undefined
}
const remember = (index: Database, stat: BigIntStats, digest: string) => {
  const at = place(stat)
  const record = encode(at, Buffer.from(`${stateOf(stat)}\n${digest}`))
  return Effect.ignore(index.write((transaction) => transaction.put(at, record)))
}

/** The remembered digest of an untouched file. */
export const known = (index: Database, path: string): string | undefined => {
  const now = stat(path)
  return now && recall(index, now)
}

const unreadable = (path: string) => (cause: unknown) =>
  new StoreError({
    kind: "Io",
    reason: `cannot read ${path}: ${cause instanceof Error ? cause.message : String(cause)}`,
  })

const hashFile = (path: string) =>
  Effect.acquireUseRelease(
    Effect.tryPromise({ try: () => open(path, "r"), catch: unreadable(path) }),
    (file) =>
      Effect.gen(function* () {
        const hash = createHash("sha256")
        const buffer = Buffer.allocUnsafe(sliceSize)
        while (true) {
          const { bytesRead } = yield* Effect.tryPromise({
            try: () => file.read(buffer, 0, sliceSize),
            catch: unreadable(path),
          })
          if (bytesRead === 0) return hash.digest("hex")
          hash.update(buffer.subarray(0, bytesRead))
        }
      }),
    (file) => Effect.promise(() => file.close()),
  )

export const digest = Effect.fnUntraced(function* (
  index: Database,
  path: string,
): Effect.fn.Return<string, StoreError> {
  for (let attempt = 0; attempt < 3; attempt++) {
    const before = stat(path)
    if (before === undefined) return yield* new StoreError({ kind: "Io", reason: `there is no file ${path}` })
    const remembered = recall(index, before)
    if (remembered !== undefined) return remembered
    const seen = BigInt(Date.now()) * 1_000_000n
    const found = yield* hashFile(path)
    const after = stat(path)
    if (after && stateOf(after) === stateOf(before)) {
      const touched = before.mtimeNs > before.ctimeNs ? before.mtimeNs : before.ctimeNs
      if (seen - touched > racy) yield* remember(index, before, found)
      return found
    }
  }
  return yield* new StoreError({ kind: "Changed", reason: `${path} keeps changing while it is being read` })
})

export const unchanged = (index: Database, path: string, expected: string): Effect.Effect<boolean, StoreError> =>
  Effect.suspend(() => {
    if (stat(path) === undefined) return Effect.succeed(false)
    return Effect.map(digest(index, path), (found) => found === expected)
  })
