/**
 * What the environment says of the hub, under the names that huggingface_hub gives it: HF_ENDPOINT, HF_TOKEN (or the
 * file HF_TOKEN_PATH, by default `token` in HF_HOME; none at all with HF_HUB_DISABLE_IMPLICIT_TOKEN), HF_HUB_CACHE (by
 * default `hub` in HF_HOME), HF_HUB_OFFLINE. Of the network they are HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as curl reads them.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { existsSync, readFileSync } from "node:fs"
import { homedir } from "node:os"
import { join, resolve } from "node:path"
import { BadSetting } from "./HubError.ts"

export interface ProxyVariables {
  readonly [variable: string]: string
}

export interface Settings {
  /** Without a slash at its end. */
  readonly endpoint: string
  readonly token: Redacted.Redacted | undefined
  /** Absolute. */
  readonly cache: string
  readonly offline: boolean
  /** Where there is a proxy: its variables, which may hold a password. */
  readonly proxy: Redacted.Redacted<ProxyVariables> | undefined
  /** Files that are fetched at once. */
  readonly downloads: number
  readonly patience: Patience
}

/** How a server that fails is dealt with. Milliseconds. */
export interface Patience {
  /** Tries of one request, and of a download that does not get ahead. */
  readonly attempts: number
  /** Before the second try; doubled before each further one, up to 32 times. */
  readonly pause: number
  /** The longest that a server may tell us to wait. */
  readonly longest: number
  /** Without a byte for this long, a connection counts as broken. */
  readonly silence: number
}

/** The hub counts requests over five minutes. */
export const patience: Patience = { attempts: 5, pause: 500, longest: 300_000, silence: 60_000 }

export const fromEnvironment: Effect.Effect<Settings, BadSetting> = Effect.gen(function* () {
  const read = (variable: string) =>
    Effect.mapError(
      Effect.map(Config.option(Config.String(variable)), Option.getOrUndefined),
      ({ message }) => new BadSetting({ variable, reason: `cannot be read: ${message}` }),
    )
  /** As Python does it: `~`, then variables once; one that is not set stays as it is written. */
  const folder = Effect.fnUntraced(function* (path: string) {
    let text = path.replace(/^~(?=$|[\\/])/, () => homedir())
    // From the end: places before stay where they are.
    for (const { 0: written, 1: name, index } of [...text.matchAll(/\$(\w+|\{[^}]*\})/g)].toReversed()) {
      const value = yield* read(name!.replace(/^\{|\}$/g, ""))
      if (value !== undefined) text = text.slice(0, index) + value + text.slice(index + written.length)
    }
    return resolve(text)
  })
  const isTrue = (text: string | undefined) => /^(1|on|yes|true)$/i.test(text ?? "")
  const caches = (yield* read("XDG_CACHE_HOME")) ?? "~/.cache"
  const home = yield* folder((yield* read("HF_HOME")) ?? join(caches, "huggingface"))
  const cache = (yield* read("HF_HUB_CACHE")) ?? (yield* read("HUGGINGFACE_HUB_CACHE"))
  const offline = (yield* read("HF_HUB_OFFLINE")) ?? (yield* read("TRANSFORMERS_OFFLINE"))
  const given = (yield* read("HF_TOKEN")) ?? (yield* read("HUGGING_FACE_HUB_TOKEN"))
  const tokenFile = yield* folder((yield* read("HF_TOKEN_PATH")) ?? join(home, "token"))
  // A token of the environment counts as implicit, too: nobody says it for this run.
  const isTokenLess = isTrue(yield* read("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
  const proxy: Record<string, string> = {}
  for (const variable of PROXY_VARIABLES) {
    const value = yield* read(variable)
    if (value !== undefined && value !== "") proxy[variable] = value
  }
  return {
    endpoint: yield* endpointOf((yield* read("HF_ENDPOINT")) ?? "https://huggingface.co"),
    token: isTokenLess ? undefined : yield* given === undefined ? tokenIn(tokenFile) : tokenOf("HF_TOKEN", given),
    cache: cache === undefined ? join(home, "hub") : yield* folder(cache),
    offline: isTrue(offline),
    proxy: Object.keys(proxy).some((name) => /^https?_/i.test(name)) ? Redacted.make(proxy) : undefined,
    downloads: 4,
    patience,
  }
})

const PROXY_VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].flatMap((name) => [name.toLowerCase(), name])

const endpointOf = (text: string): Effect.Effect<string, BadSetting> => {
  const url = URL.parse(text)
  const isPlain = url !== null && /^https?:$/.test(url.protocol) && `${url.username}${url.password}${url.search}` === ""
  return isPlain
    ? Effect.succeed(text.replace(/\/+$/, ""))
    : Effect.fail(
        new BadSetting({ variable: "HF_ENDPOINT", reason: "is not the address of a hub; expected https://<host>" }),
      )
}

const tokenOf = (variable: string, text: string): Effect.Effect<Redacted.Redacted | undefined, BadSetting> => {
  const token = text.trim()
  if (token === "") return Effect.succeed(undefined)
  return /^[\x21-\x7e]+$/.test(token)
    ? Effect.succeed(Redacted.make(token))
    : Effect.fail(new BadSetting({ variable, reason: "holds no token: a token is one word of plain characters" }))
}

const tokenIn = (file: string): Effect.Effect<Redacted.Redacted | undefined, BadSetting> =>
  Effect.try({
    try: () => (existsSync(file) ? readFileSync(file, "utf8") : ""),
    catch: (cause) => new BadSetting({ variable: file, reason: `cannot be read: ${(cause as Error).message}` }),
  }).pipe(Effect.flatMap((text) => tokenOf(file, text)))
