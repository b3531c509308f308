import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { homedir } from "node:os"
import { join, resolve } from "node:path"
import * as Settings from "../../src/hub/Settings.ts"
import { folder, write } from "../support/folder.ts"

const read = (env: Record<string, string>) =>
  Effect.provideService(
    Settings.fromEnvironment,
    ConfigProvider.ConfigProvider,
    ConfigProvider.fromEnv({ env: { HF_TOKEN_PATH: "/nowhere/token", ...env } }),
  )

describe("the environment", () => {
  it.effect("that says nothing", () =>
    Effect.gen(function* () {
      const settings = yield* read({})
      assert.strictEqual(settings.endpoint, "https://huggingface.co")
      assert.strictEqual(settings.cache, join(homedir(), ".cache", "huggingface", "hub"))
      assert.strictEqual(settings.token, undefined)
      assert.strictEqual(settings.offline, false)
    }),
  )

  it.effect("says where the cache is", () =>
    Effect.gen(function* () {
      const cacheOf = (env: Record<string, string>) => Effect.map(read(env), ({ cache }) => cache)
      assert.strictEqual(yield* cacheOf({ XDG_CACHE_HOME: "/x" }), "/x/huggingface/hub")
      assert.strictEqual(yield* cacheOf({ XDG_CACHE_HOME: "/x", HF_HOME: "/y" }), "/y/hub")
      assert.strictEqual(yield* cacheOf({ HF_HOME: "/y", HUGGINGFACE_HUB_CACHE: "/w" }), "/w")
      assert.strictEqual(yield* cacheOf({ HF_HOME: "/y", HUGGINGFACE_HUB_CACHE: "/w", HF_HUB_CACHE: "/z" }), "/z")
      assert.strictEqual(yield* cacheOf({ HF_HOME: "~/y" }), join(homedir(), "y", "hub"))
      assert.strictEqual(yield* cacheOf({ HF_HUB_CACHE: "z" }), resolve("z"))
    }),
  )

  it.effect("has variables in its folders, as Python expands them", () =>
    Effect.gen(function* () {
      const env = { SCRATCH: "/s", A: "/a", AB: "$A" }
      const cacheOf = (more: Record<string, string>) => Effect.map(read({ ...env, ...more }), ({ cache }) => cache)
      assert.strictEqual(yield* cacheOf({ HF_HOME: "$SCRATCH/hf" }), "/s/hf/hub")
      assert.strictEqual(yield* cacheOf({ HF_HUB_CACHE: "${SCRATCH}/x$A/${A}b" }), "/s/x/a/ab")
      assert.strictEqual(yield* cacheOf({ HUGGINGFACE_HUB_CACHE: "$SCRATCH/w" }), "/s/w")
      assert.strictEqual(yield* cacheOf({ XDG_CACHE_HOME: "$SCRATCH" }), "/s/huggingface/hub")
      assert.strictEqual(yield* cacheOf({ HF_HOME: "~/$A" }), join(homedir(), "a", "hub"))
      // What is not set stays, and what a variable holds is not expanded again.
      assert.strictEqual(yield* cacheOf({ HF_HUB_CACHE: "/$NOT/${NOT}/$AB" }), "/$NOT/${NOT}/$A")
      const home = yield* folder
      write(home, "token", "hf_file")
      const { token } = yield* read({ WHERE: home, HF_TOKEN_PATH: "$WHERE/token" })
      assert.strictEqual(token && Redacted.value(token), "hf_file")
    }),
  )

  it.effect("can forbid every token that no one asked for", () =>
    Effect.gen(function* () {
      const home = yield* folder
      write(home, "token", "hf_file")
      const env = { HF_TOKEN_PATH: join(home, "token") }
      for (const more of [{}, { HF_TOKEN: "hf_env" }]) {
        const tokenOf = (flag: string) => read({ ...env, ...more, HF_HUB_DISABLE_IMPLICIT_TOKEN: flag })
        assert.strictEqual((yield* tokenOf("1")).token, undefined)
        assert.strictEqual((yield* tokenOf("True")).token, undefined)
        assert.isDefined((yield* tokenOf("0")).token)
      }
    }),
  )

  it.effect("names a proxy, whose password is not shown", () =>
    Effect.gen(function* () {
      const env = { https_proxy: "http://me:secret@proxy:8080", NO_PROXY: "localhost", HTTP_PROXY: "" }
      const settings = yield* read(env)
      assert.deepStrictEqual(settings.proxy && Redacted.value(settings.proxy), {
        https_proxy: "http://me:secret@proxy:8080",
        NO_PROXY: "localhost",
      })
      assert.notInclude(JSON.stringify(settings), "secret")
      assert.strictEqual((yield* read({ NO_PROXY: "*" })).proxy, undefined)
    }),
  )

  it.effect("says whether we are offline, as huggingface_hub reads it", () =>
    Effect.gen(function* () {
      for (const yes of ["1", "on", "YES", "True"]) assert.isTrue((yield* read({ HF_HUB_OFFLINE: yes })).offline, yes)
      for (const no of ["0", "false", "", "2"]) assert.isFalse((yield* read({ HF_HUB_OFFLINE: no })).offline, no)
      assert.isTrue((yield* read({ TRANSFORMERS_OFFLINE: "1" })).offline)
    }),
  )

  it.effect("holds a token, or a file does", () =>
    Effect.gen(function* () {
      const home = yield* folder
      const tokenOf = (env: Record<string, string>) =>
        Effect.map(read(env), ({ token }) => token && Redacted.value(token))
      write(home, "token", " hf_file\n")
      write(home, "other", "hf_other")
      const env = { HF_HOME: home, HF_TOKEN_PATH: join(home, "token") }
      assert.strictEqual(yield* tokenOf(env), "hf_file")
      assert.strictEqual(yield* tokenOf({ ...env, HF_TOKEN_PATH: join(home, "other") }), "hf_other")
      assert.strictEqual(yield* tokenOf({ ...env, HF_TOKEN: "hf_env\n" }), "hf_env")
      assert.strictEqual(yield* tokenOf({ HUGGING_FACE_HUB_TOKEN: "hf_old" }), "hf_old")
      const { HF_TOKEN_PATH: _, ...implied } = env
      const settings = yield* Effect.provideService(
        Settings.fromEnvironment,
        ConfigProvider.ConfigProvider,
        ConfigProvider.fromEnv({ env: implied }),
      )
      assert.strictEqual(settings.token && Redacted.value(settings.token), "hf_file")
      assert.notInclude(JSON.stringify(settings), "hf_file")
    }),
  )

  it.effect("can be wrong, without showing a token", () =>
    Effect.gen(function* () {
      const wrong = (env: Record<string, string>) => Effect.map(Effect.flip(read(env)), ({ message }) => message)
      assert.match(yield* wrong({ HF_ENDPOINT: "huggingface.co" }), /HF_ENDPOINT is not the address of a hub/)
      assert.match(yield* wrong({ HF_ENDPOINT: "ftp://x" }), /expected https/)
      assert.match(yield* wrong({ HF_ENDPOINT: "https://me:secret@x" }), /^(?!.*secret).*HF_ENDPOINT/)
      assert.match(yield* wrong({ HF_TOKEN: "hf_a\nsecret" }), /^(?!.*secret).*HF_TOKEN holds no token/)
      assert.strictEqual(
        (yield* read({ HF_ENDPOINT: "https://mirror.example/hf//" })).endpoint,
        "https://mirror.example/hf",
      )
    }),
  )
})
