/** What a command ended with, as one message and an exit code. */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import { existsSync, readFileSync } from "node:fs"
import { type StudyError, StudyErrors } from "../engine/Problem.ts"
import { StagesFailed } from "./CallError.ts"
import { shorten } from "./Paths.ts"

/** Exit codes: a stage failed; the study or the call is wrong; interrupted. */
const codes = { failed: 1, wrong: 2, interrupted: 130 } as const

/** The line of the file with a mark under the column. */
const excerpt = ({ column, file, line }: StudyError): string => {
  if (!existsSync(file)) return ""
  const text = readFileSync(file, "utf8").split(/\r?\n/)[line - 1]
  if (text === undefined) return ""
  const number = String(line)
  const indent = text.slice(0, column - 1).replace(/[^\t]/g, " ")
  return `\n  ${number} | ${text}\n  ${" ".repeat(number.length)} | ${indent}^`
}
const describe = (error: StudyError): string =>
  `${shorten(error.file)}:${error.line}:${error.column}: ${error.reason}${excerpt(error)}`

const message = (error: unknown): string => {
  if (error instanceof StudyErrors) return error.errors.map(describe).join("\n\n")
  return error instanceof Error ? error.message : String(error)
}

/** @param say writes a message to standard error */
export const codeOf = (exit: Exit.Exit<unknown, unknown>, say: (message: string) => void): number => {
  if (Exit.isSuccess(exit)) return 0
  const { cause } = exit
  if (Cause.hasInterruptsOnly(cause)) {
    say("interrupted; what was finished is kept")
    return codes.interrupted
  }
  const error = Cause.squash(cause)
  // What has been reported where it happened is not told again. A bug comes with all that helps to find it.
  if (error instanceof StagesFailed) return codes.failed
  say(Cause.hasDies(cause) ? Cause.pretty(cause) : message(error))
  return Cause.hasDies(cause) ? codes.failed : codes.wrong
}
