/**
 * An ordered map from bytes to bytes with synchronous reads and batched, synchronous, durable write transactions. Two
 * of them, `index` and `objects`, are a store's whole state; they live in LMDB (Lmdb.ts) or in memory (here).
 */
import * as Effect from "effect/Effect"
import { StoreError } from "./StoreError.ts"

export interface Transaction {
  readonly put: (key: Uint8Array, value: Uint8Array) => void
  readonly remove: (key: Uint8Array) => void
}

/** What an implementation gives; `make` adds the queue of writes. */
export interface Backend extends Transaction {
  readonly get: (key: Uint8Array) => Uint8Array | undefined
  readonly page: (from: Uint8Array, to: Uint8Array, limit: number, reverse: boolean) => ReadonlyArray<Uint8Array>
  /** Runs `body` in one transaction: durable on return, without effect when it throws. */
  readonly transact: (body: () => void) => void
  /** Why nothing can be written, if so. */
  readonly readOnly?: StoreError
}

export interface Database {
  /** The value. It is only good until the next read: copy what is kept. */
  readonly get: (key: Uint8Array) => Uint8Array | undefined
  /**
   * The keys that begin with `prefix`, in order. Each page is a snapshot of its own, so that a slow reader holds no
   * pages back from reuse, and the map may change underneath.
   */
  readonly keys: (prefix: Uint8Array, reverse?: boolean) => IteratorObject<Uint8Array>
  /**
   * Runs `body` in a transaction, with others that wait at the same time, and succeeds once it is durable. `body` may
   * run twice (when another of its batch failed) and sees the writes before it. `bytes` says how much it writes, if
   * that is much: the event loop is given its turn after about 20 ms of writing.
   */
  readonly write: <A>(body: (transaction: Transaction) => A, bytes?: number) => Effect.Effect<A, StoreError>
  /** As `write`, without waiting and without telling: for what is cheap to lose. */
  readonly writeLater: (body: (transaction: Transaction) => void) => void
  /** Holds writes back while the effect runs. They wait, they do not fail. */
  readonly quiesced: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Writes what is queued, now, unless writes are held back. */
  readonly flush: () => void
}

/** What a store runs on. */
export interface Files {
  readonly index: Database
  readonly objects: Database
  /** Bytes on disk, free pages included. */
  readonly bytes: () => number
  /** Rewrites the files without their free pages. `Busy` while another process has them open. */
  readonly compact: Effect.Effect<void, StoreError>
  /** Whether another live process has them open. */
  readonly isShared: () => boolean
  /** Tells other hosts that this process lives. */
  readonly touch: () => void
}

const pageSize = 512
/** Milliseconds that a transaction should not take much longer than. */
const patience = 20
/** Bytes that are always let into one transaction, and never more than. The queue finds its place between. */
const budgets = { least: 2 << 20, most: 32 << 20 }
/** Bytes that a job counts for when it does not say. */
const small = 32 << 10

interface Job {
  readonly bytes: number
  readonly body: (transaction: Transaction) => unknown
  readonly done: (result: Effect.Effect<any, StoreError>) => void
}

const end = (prefix: Uint8Array): Uint8Array => {
  const bytes = Uint8Array.from(prefix)
  bytes[bytes.length - 1]! += 1
  return bytes
}

/** @param current the backend in use, asked anew each time: it changes when the files are replaced. */
export const make = (current: () => Backend, failure: (cause: unknown) => StoreError): Database => {
  const queue: Array<Job> = []
  let budget = budgets.least
  let scheduled = false
  let holds = 0

  const schedule = () => {
    if (scheduled || holds > 0 || queue.length === 0) return
    scheduled = true
    setImmediate(() => {
      scheduled = false
      if (holds === 0) runBatch()
      schedule()
    })
  }
  const runBatch = () => {
    let bytes = 0
    let end = 0
    while (end < queue.length && (end === 0 || bytes + queue[end]!.bytes <= budget)) bytes += queue[end++]!.bytes
    const isFull = end < queue.length
    const batch = queue.splice(0, end)
    if (batch.length === 0) return
    const since = performance.now()
    const backend = current()
    const results: Array<unknown> = []
    try {
      backend.transact(() => {
        results.length = 0
        for (const job of batch) results.push(job.body(backend))
      })
    } catch (cause) {
      // One job's failure must not be another's: each gets a transaction of its own.
      if (batch.length > 1) for (const job of batch) runAlone(job)
      else batch[0]!.done(Effect.fail(failure(cause)))
      return
    }
    const took = performance.now() - since
    if (took > patience) budget = Math.max(budgets.least, budget / 2)
    else if (isFull && took < patience / 2) budget = Math.min(budgets.most, budget * 2)
    batch.forEach((job, i) => job.done(Effect.succeed(results[i])))
  }
  const runAlone = (job: Job) => {
    const backend = current()
    let result: unknown
    try {
      backend.transact(() => {
        result = job.body(backend)
      })
    } catch (cause) {
      job.done(Effect.fail(failure(cause)))
      return
    }
    job.done(Effect.succeed(result))
  }

  return {
    get: (key) => current().get(key),
    *keys(prefix, reverse = false) {
      let [from, to] = [prefix, end(prefix)]
      while (true) {
        const page = current().page(from, to, pageSize, reverse)
        yield* page
        if (page.length < pageSize) return
        const last = page.at(-1)!
        if (reverse) to = last
        else from = Buffer.concat([last, Buffer.alloc(1)])
      }
    },
    write: <A>(body: (transaction: Transaction) => A, bytes = small) =>
      Effect.callback<A, StoreError>((resume) => {
        const { readOnly } = current()
        if (readOnly) return resume(Effect.fail(readOnly))
        const job: Job = { bytes, body, done: resume }
        queue.push(job)
        schedule()
        return Effect.sync(() => {
          const i = queue.indexOf(job)
          if (i >= 0) queue.splice(i, 1)
        })
      }),
    writeLater: (body) => {
      if (current().readOnly) return
      queue.push({ bytes: small, body, done: () => {} })
      schedule()
    },
    quiesced: (effect) =>
      Effect.acquireUseRelease(
        Effect.sync(() => void (holds += 1)),
        () => effect,
        () =>
          Effect.sync(() => {
            holds -= 1
            schedule()
          }),
      ),
    flush: () => {
      if (holds === 0) while (queue.length > 0) runBatch()
    },
  }
}

/** Latin-1 strings compare as their bytes do. */
const name = (key: Uint8Array) => Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1")

const memory = (): Backend & { readonly bytes: () => number } => {
  const entries = new Map<string, Uint8Array>()
  let undo: Array<() => void> = []
  const change = (key: Uint8Array, value: Uint8Array | undefined) => {
    const id = name(key)
    const before = entries.get(id)
    undo.push(() => void (before ? entries.set(id, before) : entries.delete(id)))
    if (value) entries.set(id, Uint8Array.from(value))
    else entries.delete(id)
  }
  return {
    bytes: () => entries.values().reduce((sum, value) => sum + value.length, 0),
    get: (key) => entries.get(name(key)),
    page: (from, to, limit, reverse) => {
      const [low, high] = [name(from), name(to)]
      const inside = [...entries.keys()].filter((id) => id >= low && id < high).toSorted()
      return (reverse ? inside.toReversed() : inside).slice(0, limit).map((id) => Buffer.from(id, "latin1"))
    },
    transact: (body) => {
      undo = []
      try {
        body()
      } catch (cause) {
        for (const restore of undo.toReversed()) restore()
        throw cause
      }
    },
    put: change,
    remove: (key) => change(key, undefined),
  }
}

const failure = (cause: unknown) => new StoreError({ kind: "Io", reason: String(cause) })

/** Two databases in memory, gone with the process. */
export const inMemory = (): Files => {
  const [index, objects] = [memory(), memory()]
  return {
    index: make(() => index, failure),
    objects: make(() => objects, failure),
    bytes: () => index.bytes() + objects.bytes(),
    compact: Effect.void,
    isShared: () => false,
    touch: () => {},
  }
}
