/**
 * Keys of results: SHA-256 over canonical JSON that names everything a result depends on.
 *
 * Canonical JSON has sorted keys, no white space and one spelling of each number; each pre-image starts with its domain,
 * so that a key of one kind can never be mistaken for one of another. It is what `JSON.parse` reads back: nothing is
 * cut, rounded or folded together, and two pre-images with the same text are the same.
 */
import type { Json } from "effect/Schema"
import { hash } from "node:crypto"

/** Everything that a result depends on except its inputs. Names, labels and hints are not here on purpose. */
export interface Identity {
  /** The stage's kind (`use`), not its name in the study. */
  readonly stage: string
  readonly version: number
  /** Fingerprint of the stage's code. */
  readonly code: string
  /** Fingerprints of the plug-ins that it names, in its order. */
  readonly plugins: ReadonlyArray<string>
  /** Decoded and encoded again, so that a default written out and a default left out are one. */
  readonly params: { readonly [name: string]: Json }
  /** Digests of source files by slot. */
  readonly sources: { readonly [slot: string]: string }
  /** The study's seed, for stages that declare `seeded` only. */
  readonly seed?: number
}

/**
 * The inputs' static keys, or the digests of their outputs, by slot. For `many`, everything that the stage is shown of
 * each gathered cell: its id, its coordinates in order, and then the key or digest.
 */
export type Inputs = {
  readonly [slot: string]:
    | string
    | null
    | ReadonlyArray<readonly [cell: string, ReadonlyArray<readonly [axis: string, label: string]>, digest: string]>
}

/** `static/1` names inputs by their own static keys, `content/1` by the digests of their outputs. */
export type Domain = "static/1" | "content/1"

/**
 * Canonical JSON. Entries that are `undefined` are left out, -0 is 0.
 * Anything that is not JSON (NaN, an infinity, a function) is a defect of the caller and throws.
 */
export const canonical = (value: unknown): string => {
  if (typeof value === "string" || typeof value === "boolean" || value === null) return JSON.stringify(value)
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new RangeError(`${value} cannot be part of a key`)
    return JSON.stringify(value) // -0 becomes 0
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`
  if (typeof value !== "object") throw new TypeError(`a ${typeof value} cannot be part of a key`)
  const record = value as { readonly [key: string]: unknown }
  const entries: Array<string> = []
  for (const key of Object.keys(record).toSorted()) {
    if (record[key] !== undefined) entries.push(`${JSON.stringify(key)}:${canonical(record[key])}`)
  }
  return `{${entries.join()}}`
}

export const sha256 = (text: string): string => hash("sha256", text)

/** What a key is made of, for `why`. */
export const preimage = (domain: Domain, identity: Identity, inputs: Inputs): Json =>
  [domain, identity, inputs] as unknown as Json

// Thousands of cells share an identity or a gathered list: each is written once.
const written = new WeakMap<object, string>()
const writeOnce = (value: object): string => {
  const known = written.get(value)
  if (known !== undefined) return known
  const text = canonical(value)
  written.set(value, text)
  return text
}

/** SHA-256 of the canonical pre-image. */
export const make = (domain: Domain, identity: Identity, inputs: Inputs): string => {
  const slots: Array<string> = []
  for (const slot of Object.keys(inputs).toSorted()) {
    const input = inputs[slot]!
    const text = typeof input === "object" && input !== null ? writeOnce(input) : canonical(input)
    slots.push(`${JSON.stringify(slot)}:${text}`)
  }
  return sha256(`["${domain}",${writeOnce(identity)},{${slots.join()}}]`)
}

/**
 * 64 bits for a stage that declares `seeded`, 0 for others. Every part of it is in the content key too, so equal keys
 * have equal seeds; code is left out, so that a refactoring does not move the numbers.
 */
export const seed = ({ seed, stage, params }: Identity, inputs: Inputs): bigint =>
  seed === undefined ? 0n : BigInt(`0x${sha256(canonical(["seed/1", seed, stage, params, inputs])).slice(0, 16)}`)
