/** What runs cost so far, by stage and class: a mean in which the latest runs weigh most. */
import { decode, encode, key, Kind, sha256 } from "./Codec.ts"
import type { Database, Transaction } from "./Database.ts"

export interface Cost {
  /** Stage kind. */
  readonly stage: string
  /** What its cost depends on, as the caller sees fit (a size class). */
  readonly class: string
  readonly runs: number
  readonly seconds: number
  /** Bytes. */
  readonly peakMemory: number
  /** Bytes added to the store. */
  readonly bytes: number
}

/** A new run weighs at least this much, so that a faster machine or version shows within a few runs. */
const weight = 0.25

const read = (index: Database, at: Uint8Array): Cost | undefined => {
  const record = index.get(at)
  const payload = record && decode(at, record)
  return payload && (JSON.parse(payload.toString()) as Cost)
}

export const record = (index: Database, transaction: Transaction, cost: Omit<Cost, "runs">) => {
  const at = key(Kind.cost, sha256(JSON.stringify([cost.stage, cost.class])))
  const before = read(index, at)
  const runs = (before?.runs ?? 0) + 1
  const share = Math.max(weight, 1 / runs)
  const blend = (name: "seconds" | "peakMemory" | "bytes") =>
    before === undefined ? cost[name] : before[name] + share * (cost[name] - before[name])
  const after: Cost = {
    stage: cost.stage,
    class: cost.class,
    runs,
    seconds: blend("seconds"),
    peakMemory: blend("peakMemory"),
    bytes: blend("bytes"),
  }
  transaction.put(at, encode(at, Buffer.from(JSON.stringify(after))))
}

export const all = (index: Database): ReadonlyArray<Cost> =>
  [...index.keys(Uint8Array.of(Kind.cost))].flatMap((at) => read(index, at) ?? [])
