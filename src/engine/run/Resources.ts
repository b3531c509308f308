/** What a point of a stage's sweep reads and computes with: its files, digested, and its identity for the key. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Blueprint from "../study/Blueprint.ts"
import type { Path } from "../study/Document.ts"
import type * as Key from "../plan/Key.ts"
import type { Options } from "../plan/Plan.ts"
import type { Problem } from "../Problem.ts"
import type { Source } from "../Stage.ts"

export interface Resources {
  readonly identity: Key.Identity
  readonly sources: { readonly [slot: string]: Source }
}

/**
 * Finds a point's resources on first use, so that points that are excluded read nothing. `undefined` where there is a
 * mistake, which is noted.
 */
export const make = Effect.fnUntraced(function* <R>(
  { registered }: Blueprint.Blueprint<R>,
  studySeed: number,
  { fingerprint, digest, locate }: Options<R>,
  mistake: (path: Path, reason: string) => void,
) {
  const { use, file, stage } = registered
  const code = yield* Effect.result(fingerprint(file))
  if (Result.isFailure(code)) mistake(["use"], code.failure.reason)

  const find = Effect.fnUntraced(function* (point: Blueprint.Point) {
    const paths = yield* stage.sources?.(point.params, locate) ?? Effect.succeed({})
    const plugins = yield* stage.plugins?.(point.params, paths) ?? Effect.succeed([])
    const sources: Record<string, Source> = {}
    const digests: Record<string, string> = {}
    for (const [slot, path] of Object.entries(paths)) {
      digests[slot] = yield* digest(path)
      sources[slot] = { path, digest: digests[slot] }
    }
    const identity: Key.Identity = {
      stage: use,
      version: stage.version,
      code: Result.getOrElse(code, () => ""),
      plugins: yield* Effect.forEach(plugins, (module) => fingerprint(module)),
      params: point.json,
      sources: digests,
      ...(stage.seeded === true ? { seed: studySeed } : {}),
    }
    return { identity, sources } satisfies Resources
  })

  const known = new Map<Blueprint.Point, Resources | undefined>()
  return Effect.fnUntraced(function* (point: Blueprint.Point) {
    if (known.has(point)) return known.get(point)
    const found = yield* Effect.result(find(point))
    if (Result.isFailure(found)) {
      // Only a stage's own problem says which parameter it is about.
      const { reason, path = [] } = found.failure as { readonly reason: string; readonly path?: Problem["path"] }
      mistake(Blueprint.pathOf(point.choices, path), reason)
    }
    const resources = Result.isSuccess(found) ? found.success : undefined
    known.set(point, resources)
    return resources
  })
})
