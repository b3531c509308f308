/** What a tokenizer puts before a text when it is asked for its special tokens; what it puts after is never wanted here. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Build, choose, Malformed, part } from "./Component.ts"

/** Ids before the text. */
type Before = ReadonlyArray<number>

const Id = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const Special = Schema.Struct({ SpecialToken: Schema.Struct({ id: Schema.String }) })
const Text = Schema.Struct({ Sequence: Schema.Struct({ id: Schema.Literals(["A", "B"]) }) })
/** A text and an id. */
const Named = Schema.Tuple([Schema.String, Id])

const parts = (): { readonly [type: string]: Build<Before> } => ({
  ByteLevel: part(Schema.Struct({}), () => []),
  BertProcessing: part(Schema.Struct({ cls: Named }), ({ cls }) => [cls[1]]),
  RobertaProcessing: part(Schema.Struct({ cls: Named }), ({ cls }) => [cls[1]]),
  TemplateProcessing: part(
    Schema.Struct({
      single: Schema.Array(Schema.Union([Special, Text])),
      special_tokens: Schema.Record(Schema.String, Schema.Struct({ ids: Schema.Array(Id) })),
    }),
    ({ single, special_tokens: special }) => {
      const ids: Array<number> = []
      for (const piece of single) {
        if ("Sequence" in piece) break
        const { id } = piece.SpecialToken
        if (!Object.hasOwn(special, id)) {
          return Effect.fail(
            new Malformed({ reason: `TemplateProcessing: special_tokens lacks ${JSON.stringify(id)}` }),
          )
        }
        // One by one: as arguments of one call a long list would overflow the stack.
        for (const own of special[id]!.ids) ids.push(own)
      }
      return ids
    },
  ),
  Sequence: part(Schema.Struct({ processors: Schema.Array(Schema.Unknown) }), ({ processors }) =>
    Effect.map(Effect.forEach(processors, postProcessor), (all) => all.toReversed().flat()),
  ),
})

export const postProcessor: (config: unknown) => Effect.Effect<Before, Malformed> = choose("post_processor", parts)

/** The post-processor that puts one token before a text. */
export const leading = (token: string, id: number) => ({
  type: "TemplateProcessing",
  single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
  pair: [
    { SpecialToken: { id: token, type_id: 0 } },
    { Sequence: { id: "A", type_id: 0 } },
    { Sequence: { id: "B", type_id: 1 } },
  ],
  special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
})
