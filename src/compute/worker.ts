/**
 * A worker thread: imports the module it is told to and calls the export it is told to. It holds no state of its own;
 * what a module keeps between calls (open sessions) is the module's business.
 */
import { parentPort } from "node:worker_threads"
import { collect } from "./Collect.ts"

export interface Call {
  readonly id: number
  readonly module: string
  readonly name: string
  readonly argument: unknown
}
export type Reply =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: { readonly tag: string; readonly message: string } }

const port = parentPort!
const send = (reply: Reply) => port.postMessage(reply)

port.on("message", async ({ argument, id, module, name }: Call) => {
  try {
    const exports = await import(module)
    send({ id, value: await exports[name](argument) })
  } catch (cause) {
    const error = cause instanceof Error ? cause : new Error(String(cause))
    const tag = "_tag" in error ? String(error._tag) : error.name
    send({ id, error: { tag, message: error.message } })
  }
  collect()
})
