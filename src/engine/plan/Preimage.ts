/** What is kept under a result's key for `why`: all that the key was made from, and what names its parts. */
import type { Json } from "effect/Schema"
import type { Identity, Inputs } from "./Key.ts"
import * as Plan from "./Plan.ts"
import type { Study } from "../study/Study.ts"

export interface Preimage {
  readonly identity: Identity
  readonly inputs: Inputs
  /** `--set` arguments of the run that computed it. */
  readonly overrides: ReadonlyArray<string>
}

export const make = <R>(study: Study, cell: Plan.Cell<R>, digests: Plan.InputDigests): string => {
  const [, identity, inputs] = Plan.contentPreimage(cell, digests) as unknown as readonly [string, Identity, Inputs]
  return JSON.stringify({ identity, inputs, overrides: study.overrides } satisfies Preimage)
}

/** `undefined` for text of another format. */
export const parse = (text: string): Preimage | undefined => {
  const json = JSON.parse(text) as Json
  return typeof json === "object" && json !== null && "identity" in json ? (json as unknown as Preimage) : undefined
}
