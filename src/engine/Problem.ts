/** What can be wrong with a study or a stage, as data. The sentence says what is wrong and what would be right. */
import * as Schema from "effect/Schema"

/**
 * A mistake in a stage's parameters, found before anything runs. `path` is relative to the stage
 * (`["weights", "group"]`), so that the plan can point at the line and column of the YAML that caused it.
 */
export class Problem extends Schema.TaggedError<Problem>()("Problem", {
  path: Schema.Array(Schema.Union([Schema.String, Schema.Int])),
  reason: Schema.String,
}) {
  override get message() {
    return this.reason
  }
}

/** A mistake in a study file, at its place: `file:line:column: reason`. */
export class StudyError extends Schema.TaggedError<StudyError>()("StudyError", {
  file: Schema.String,
  line: Schema.Int,
  column: Schema.Int,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file}:${this.line}:${this.column}: ${this.reason}`
  }
}

/** A stage could not do its work: bad input bytes, a full disk, a crashed worker. Never stored; tried again next time. */
export class StageFailure extends Schema.TaggedError<StageFailure>()("StageFailure", {
  reason: Schema.String,
}) {
  override get message() {
    return this.reason
  }
}

/** Bytes that a live trace promises are gone or wrong. The run answers by computing them again. */
export class BlobLost extends Schema.TaggedError<BlobLost>()("BlobLost", {
  digest: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `object ${this.digest.slice(0, 12)} ${this.reason}`
  }
}

/** Every mistake found in a study, in the order of its lines: one report, not one at a time. */
export class StudyErrors extends Schema.TaggedError<StudyErrors>()("StudyErrors", {
  errors: Schema.NonEmptyArray(StudyError),
}) {
  override get message() {
    return this.errors.map((error) => error.message).join("\n")
  }
}
