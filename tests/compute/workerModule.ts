/** What `Pool.test.ts` has its threads do. */
import { threadId } from "node:worker_threads"

export class Odd extends Error {
  readonly _tag = "Odd"
}
export const double = (n: number) => 2 * n
export const thread = () => threadId
export const typed = (n: number) => {
  throw new Odd(`${n} is odd`)
}
export const plain = () => {
  throw new RangeError("out of range")
}
export const text = async () => {
  // Not an error object: what then?
  throw "just text"
}
export const die = () => process.exit(3)
export const uncloneable = () => () => 1
/** Adds 1 to the shared counter, waits, adds 1 again. */
export const slow = ({ counter, milliseconds }: { counter: SharedArrayBuffer; milliseconds: number }) => {
  const view = new Int32Array(counter)
  Atomics.add(view, 0, 1)
  Atomics.wait(view, 1, 0, milliseconds)
  return Atomics.add(view, 0, 1) + 1
}
