/** A small model and a small data set on a local hub, and a client of it with little patience. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Hub, type OnProgress } from "../../src/hub/Hub.ts"
import * as Reference from "../../src/hub/Reference.ts"
import type { Patience, Settings } from "../../src/hub/Settings.ts"
import { folder } from "../support/folder.ts"
import { commitOf, type HubServer, noise, open, type Repo } from "../support/hubServer.ts"

export const NAME = "acme/tiny"
export const COMMIT = commitOf("first")
export const LATER = commitOf("second")

export const WEIGHTS = noise(3_000_000, 1)
export const FILES = {
  ".gitattributes": "*.safetensors filter=lfs\n",
  "README.md": "# tiny\n",
  "config.json": '{"model_type":"llama"}',
  "tokenizer.json": '{"model":{}}',
  "tokenizer_config.json": "{}",
  "model.safetensors": WEIGHTS,
  "pytorch_model.bin": noise(100, 2),
  "onnx/model.bin": noise(100, 3),
}

export const repo: Repo = {
  kind: "model",
  name: NAME,
  refs: { main: COMMIT, "pr/1": COMMIT },
  commits: { [COMMIT]: FILES, [LATER]: { ...FILES, "config.json": '{"model_type":"llama","vocab_size":1}' } },
}

export const patience: Patience = { attempts: 3, pause: 5, longest: 1_200, silence: 20_000 }

export interface Bench {
  readonly server: HubServer
  readonly cache: string
  readonly settings: Settings
}

export const bench = (repos: ReadonlyArray<Repo> = [repo]) =>
  Effect.gen(function* () {
    const server = yield* open(repos)
    const cache = yield* folder
    const settings: Settings = {
      endpoint: server.endpoint,
      token: undefined,
      cache,
      offline: false,
      proxy: undefined,
      downloads: 4,
      patience,
    }
    return { server, cache, settings } satisfies Bench as Bench
  })

export const silent: OnProgress = () => Effect.void

export const withToken = (settings: Settings, token: string): Settings => ({
  ...settings,
  token: Redacted.make(token),
})

/** A client of its own: it has seen and checked nothing yet. */
export const client = (settings: Settings) => Effect.provide(Hub, Hub.layerOf(settings))

export const reference = (text = `hub:${NAME}`) => {
  const parsed = Reference.read(text)
  if (typeof parsed === "string") throw new Error(parsed)
  return parsed
}
