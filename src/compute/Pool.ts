/**
 * The worker pool: inference and weight arithmetic run in threads, so the main thread only waits and reports.
 *
 * A call names a module and one of its exports; its argument is structured-cloned, except that SharedArrayBuffers are
 * shared. A thread runs one call at a time, and ONNX Runtime gets one thread in each: results cannot depend on how
 * many there are.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Worker } from "node:worker_threads"
import * as Lending from "./Lending.ts"
import { collect } from "./Collect.ts"
import type { Call, Reply } from "./worker.ts"

/** What a worker threw: `tag` is the error's own name, the message its sentence. */
export class WorkerError extends Schema.TaggedError<WorkerError>()("WorkerError", {
  tag: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return this.reason
  }
}

interface Job {
  readonly call: Call
  readonly done: (exit: Effect.Effect<any, WorkerError>) => void
}
interface Thread {
  readonly worker: Worker
  job: Job | undefined
  /** Called when the job ends, where somebody waits for that. */
  idle: (() => void) | undefined
}

export class Pool extends Context.Service<
  Pool,
  {
    readonly size: number
    /** For what is fed to the threads and soon replaced. */
    readonly memory: Lending.Lending
    /** Run `name` of `module` (a file URL) on the next free thread. */
    readonly call: <A>(module: URL, name: string, argument: unknown) => Effect.Effect<A, WorkerError>
  }
>()("assay/compute/Pool") {
  static readonly layer = (size: number) =>
    Layer.effect(
      Pool,
      Effect.acquireRelease(
        Effect.sync(() => start(size)),
        (pool) => Effect.promise(pool.close),
      ),
    )
}

const start = (size: number) => {
  const waiting: Array<Job> = []
  const threads: Array<Thread> = []
  let count = 0
  let closed = false

  const spawn = (): Thread => {
    // Warnings about type stripping in older Node releases would repeat for every thread.
    const worker = new Worker(new URL("./worker.ts", import.meta.url), { execArgv: ["--no-warnings"] })
    const thread: Thread = { worker, job: undefined, idle: undefined }
    worker.unref()
    worker.on("message", (reply: Reply) => {
      const job = thread.job!
      thread.job = undefined
      worker.unref()
      thread.idle?.()
      job.done(
        "error" in reply
          ? Effect.fail(new WorkerError({ tag: reply.error.tag, reason: reply.error.message }))
          : Effect.succeed(reply.value),
      )
      next()
      collect()
    })
    const lost = (reason: string) => {
      const at = threads.indexOf(thread)
      if (at >= 0) threads.splice(at, 1)
      thread.job?.done(Effect.fail(new WorkerError({ tag: "WorkerLost", reason })))
      thread.job = undefined
      thread.idle?.()
      if (!closed) next()
    }
    worker.on("error", (error) => lost(error instanceof Error ? error.message : String(error)))
    worker.on("exit", (code) => lost(`a worker thread ended with code ${code}; is there enough memory?`))
    threads.push(thread)
    return thread
  }
  const next = () => {
    while (waiting.length > 0) {
      const thread = threads.find((t) => t.job === undefined) ?? (threads.length < size ? spawn() : undefined)
      if (thread === undefined) return
      const job = waiting.shift()!
      thread.job = job
      try {
        thread.worker.postMessage(job.call)
        thread.worker.ref()
      } catch (cause) {
        // An argument that cannot be sent is the caller's bug; the thread has not seen it.
        thread.job = undefined
        job.done(Effect.die(cause))
      }
    }
  }
  return {
    size,
    memory: Lending.make(),
    call: <A>(module: URL, name: string, argument: unknown) =>
      Effect.callback<A, WorkerError>((resume) => {
        const job: Job = { call: { id: count++, module: module.href, name, argument }, done: resume }
        waiting.push(job)
        next()
        return Effect.sync(() => {
          const at = waiting.indexOf(job)
          if (at >= 0) waiting.splice(at, 1)
        })
      }),
    close: async () => {
      closed = true
      waiting.length = 0
      // ONNX Runtime ends the process when its thread is taken from under it: a call under way is waited for.
      const end = async (thread: Thread) => {
        if (thread.job !== undefined) await new Promise<void>((resolve) => (thread.idle = resolve))
        await thread.worker.terminate()
      }
      await Promise.all([...threads].map(end))
    },
  }
}
