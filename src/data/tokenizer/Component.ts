/**
 * The parts of a `tokenizer.json` as plain functions. Only parts whose behaviour is known are built: any other is an
 * error at load, since a part left out would silently give other ids.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Json from "../Json.ts"

/** What a file says of its tokenizer cannot be built; `make` adds the name of the file. */
export class Malformed extends Schema.TaggedError<Malformed>()("Malformed", { reason: Schema.String }) {
  override get message() {
    return this.reason
  }
}

export type Build<A> = (config: { readonly [key: string]: unknown }) => Effect.Effect<A, Malformed>

/** A part whose settings are checked first. Settings beyond the schema's do not change what it does. */
export const part =
  <S extends Schema.ConstraintDecoder<unknown>, A>(
    schema: S,
    build: (settings: S["Type"]) => A | Effect.Effect<A, Malformed>,
  ): Build<A> =>
  (config) =>
    Schema.decodeUnknownEffect(schema)(config).pipe(
      Effect.mapError(({ message }) => new Malformed({ reason: `${String(config["type"])}: ${message}` })),
      Effect.flatMap((settings) => {
        const built = build(settings)
        return Effect.isEffect(built) ? (built as Effect.Effect<A, Malformed>) : Effect.succeed(built)
      }),
    )

/** The part that a `tokenizer.json` names by its type; `place` is its key there. */
export const choose =
  <A>(place: string, parts: () => { readonly [type: string]: Build<A> }) =>
  (config: unknown): Effect.Effect<A, Malformed> => {
    if (!Json.isRecord(config)) return Effect.fail(new Malformed({ reason: `its ${place} is no object` }))
    const type = config["type"]
    const known = parts()
    return typeof type === "string" && Object.hasOwn(known, type)
      ? known[type]!(config)
      : Effect.fail(
          new Malformed({
            reason: `its ${place} is of the type ${Json.shown(type)}; known are ${Object.keys(known).join(", ")}`,
          }),
        )
  }

/** What a file may leave out or set to null. */
export const or = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))
