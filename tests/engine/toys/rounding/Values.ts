/** What toy stages pass on: numbers and scores, small enough to compute in the head. */
import * as Schema from "effect/Schema"
import * as Artifact from "../../../../src/engine/Artifact.ts"

const value = Schema.Struct({ value: Schema.Finite })
export const Amount = Artifact.make<"amount", typeof value.Type, { readonly digits: number }>("amount", value)
export const Score = Artifact.make<"score", typeof value.Type, { readonly digits: number }>("score", value)
const rows = Schema.Struct({ rows: Schema.Array(Schema.String) })
export const Table = Artifact.make<"table", typeof rows.Type, { readonly rows: number }>("table", rows)
