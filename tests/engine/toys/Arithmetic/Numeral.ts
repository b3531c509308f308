/** The artifact of the arithmetic toys: a number, and its decimal digits as bytes. */
import * as Schema from "effect/Schema"
import * as Artifact from "../../../../src/engine/Artifact.ts"

export const Value = Schema.Struct({ value: Schema.Finite, digits: Artifact.Blob })
export const Numeral = Artifact.make<"number", typeof Value.Type, { readonly positive: boolean }>("number", Value)
