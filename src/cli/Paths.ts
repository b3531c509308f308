/** Paths as a user would write them. */
import { relative } from "node:path"

/** From where the user stands, unless that is longer. */
export const shorten = (path: string): string => {
  const way = relative(process.cwd(), path)
  return way !== "" && way.length < path.length ? way : path
}
