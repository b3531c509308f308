/** The call cannot be done as written: a file that is not there, a cell that does not exist. */
import * as Schema from "effect/Schema"

export class CallError extends Schema.TaggedError<CallError>()("CallError", { reason: Schema.String }) {
  override get message() {
    return this.reason
  }
}

/** Stages failed. They have been reported where they happened; this only carries the exit code. */
export class StagesFailed extends Schema.TaggedError<StagesFailed>()("StagesFailed", { count: Schema.Int }) {
  override get message() {
    return this.count === 1 ? "a stage failed" : `${this.count} stages failed`
  }
}
