/**
 * Which setting every weight matrix, linear input and layer's cache or state gets: the stage's own settings for all
 * linears of the blocks but routers, then the `select` entries in order, each overriding what came before where it
 * matches.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { suggest } from "../src/engine/study/Nearest.ts"
import { Problem } from "../src/engine/Problem.ts"
import type { Outline, Site } from "../src/models/Family.ts"
import * as Setting from "./Setting.ts"

const Layers = Schema.Union([
  Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)),
  Schema.String.check(
    Schema.isPattern(/^\d+(-\d+)?(,\d+(-\d+)?)*$/, { message: "expected layers such as 0, 0-3 or 0-3,11" }),
  ),
])

export const settings = {
  weights: Setting.schema("weights"),
  activations: Setting.schema("activations"),
  kv: Setting.schema("kv"),
  state: Setting.schema("state"),
}
export const Entry = Schema.Struct({
  /** Names as in the coverage report, `*` for any part: `mlp.*`, `self_attn.k_proj`, `lm_head`. */
  sites: Schema.optionalKey(Schema.Union([Schema.String, Schema.Array(Schema.String)])),
  layers: Schema.optionalKey(Layers),
  weights: Schema.optionalKey(settings.weights),
  activations: Schema.optionalKey(settings.activations),
  kv: Schema.optionalKey(settings.kv),
  state: Schema.optionalKey(settings.state),
})
export type Entry = typeof Entry.Type

export interface Params {
  readonly weights: Setting.Setting
  readonly activations: Setting.Setting
  readonly kv: Setting.Setting
  readonly state: Setting.Setting
  readonly select: ReadonlyArray<Entry>
}

/** A setting with the parameter that asked for it, for messages. */
export interface Chosen {
  readonly setting: Setting.Setting
  readonly path: ReadonlyArray<string | number>
}
export interface Selection {
  /** By full site. A site that is not there was not asked for. */
  readonly weights: ReadonlyMap<string, Chosen>
  readonly activations: ReadonlyMap<string, Chosen>
  /** By layer. */
  readonly kv: ReadonlyMap<number, Chosen>
  readonly state: ReadonlyMap<number, Chosen>
}

/** What belongs to a layer, not to a site. */
const KEPT = ["kv", "state"] as const
type Kept = (typeof KEPT)[number]

const matcher = (pattern: string): RegExp =>
  new RegExp(`^${pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*")}$`)

const layersOf = (written: Entry["layers"], path: ReadonlyArray<string | number>, { shape }: Outline) =>
  Effect.gen(function* () {
    const all = Array.from({ length: shape.layers }, (_, layer) => layer)
    if (written === undefined) return new Set(all)
    const ranges = String(written)
      .split(",")
      .map((part) => {
        const [from, to = from] = part.split("-").map(Number)
        return [from!, to!] as const
      })
    if (ranges.some(([from, to]) => to < from || to >= shape.layers)) {
      const reason = `layers ${written}: the model has layers 0 to ${shape.layers - 1}`
      return yield* new Problem({ path: [...path, "layers"], reason })
    }
    return new Set(all.filter((layer) => ranges.some(([from, to]) => from <= layer && layer <= to)))
  })

/** Fails for an entry that matches nothing, or that says nothing. */
export const select = (params: Params, outline: Outline): Effect.Effect<Selection, Problem> =>
  Effect.gen(function* () {
    const weights = new Map<string, Chosen>()
    const activations = new Map<string, Chosen>()
    const kept = { kv: new Map<number, Chosen>(), state: new Map<number, Chosen>() }
    const inBlocks = outline.sites.filter(({ byName }) => !byName)
    const choose = (sites: ReadonlyArray<Site>, entry: Omit<Entry, Kept>, path: ReadonlyArray<string | number>) => {
      for (const { kind, site } of sites) {
        if (entry.weights !== undefined) weights.set(site, { setting: entry.weights, path: [...path, "weights"] })
        if (entry.activations !== undefined && kind === "linear") {
          activations.set(site, { setting: entry.activations, path: [...path, "activations"] })
        }
      }
    }
    choose(inBlocks, { weights: params.weights, activations: params.activations }, [])
    for (let layer = 0; layer < outline.shape.layers; layer++)
      for (const slot of KEPT) kept[slot].set(layer, { setting: params[slot], path: [slot] })

    for (const [i, entry] of params.select.entries()) {
      const path = ["select", i]
      if ((["weights", "activations", ...KEPT] as const).every((slot) => entry[slot] === undefined)) {
        return yield* new Problem({ path, reason: "an entry needs weights, activations, kv or state" })
      }
      const layers = yield* layersOf(entry.layers, path, outline)
      const inLayers = (site: Site) => (site.layer === undefined ? entry.layers === undefined : layers.has(site.layer))
      const patterns = entry.sites === undefined ? undefined : [entry.sites].flat()
      const sites = patterns === undefined ? inBlocks.filter(inLayers) : []
      for (const pattern of patterns ?? []) {
        const found = outline.sites.filter((site) => inLayers(site) && matcher(pattern).test(site.name))
        if (found.length === 0) {
          const names = [...new Set(outline.sites.map(({ name }) => name))]
          const reason = `'${pattern}' matches no weight of the model; ${suggest(pattern, names)}`
          return yield* new Problem({ path: [...path, "sites"], reason })
        }
        sites.push(...found)
      }
      if (entry.activations !== undefined && !sites.some(({ kind }) => kind === "linear")) {
        const reason = "an embedding has no activations to quantize: it looks its rows up by token"
        return yield* new Problem({ path: [...path, "activations"], reason })
      }
      choose(sites, entry, path)
      for (const slot of KEPT) {
        const setting = entry[slot]
        if (setting === undefined) continue
        if (patterns !== undefined) {
          const what = slot === "kv" ? "the cache" : "a state"
          const reason = `${what} belongs to layers, not to sites; give ${slot} in an entry without sites`
          return yield* new Problem({ path: [...path, slot], reason })
        }
        for (const layer of layers) kept[slot].set(layer, { setting, path: [...path, slot] })
      }
    }
    yield* checkShared(weights, outline)
    return { weights, activations, ...kept }
  })

/** A tied head and its embedding are one tensor: where both are asked for, it must be in one way. */
const checkShared = (weights: Selection["weights"], { sites }: Outline): Effect.Effect<void, Problem> => {
  const first = new Map<string, Site>()
  for (const site of sites) {
    const chosen = weights.get(site.site)
    if (chosen === undefined) continue
    const other = first.get(site.tensor) ?? site
    first.set(site.tensor, other)
    const [mine, theirs] = [chosen.setting, weights.get(other.site)!.setting].map(Setting.label)
    if (mine !== theirs) {
      const reason = `${other.site} and ${site.site} share the tensor ${site.tensor} but have the settings ${theirs} and ${mine}`
      return Effect.fail(new Problem({ path: [...chosen.path], reason }))
    }
  }
  return Effect.void
}
