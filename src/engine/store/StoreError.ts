/** The cache cannot be opened, read or written. One sentence: what is wrong, and what to do about it. */
import * as Schema from "effect/Schema"

export const Reason = Schema.Literals([
  "Format", // written by another format or another LMDB
  "Damaged", // a file that LMDB or the operating system refuses
  "ReadOnly", // reads work, writes do not
  "Full", // no space left, or the map's limit reached
  "Network", // a network file system, where LMDB's locks and memory maps are not safe
  "Busy", // another live process holds what is needed
  "Changed", // a source file changed while it was being read
  "Io", // anything else the operating system says
])

export class StoreError extends Schema.TaggedError<StoreError>()("StoreError", {
  kind: Reason,
  reason: Schema.String,
}) {
  override get message() {
    return this.reason
  }
}
