/** Proxies of the environment. What Node is told holds for a whole process: those that use one are processes of their own. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Http from "node:http"
import { type AddressInfo, connect } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Proxy from "../../src/hub/Proxy.ts"
import { bench, client, COMMIT, NAME, reference } from "./fixtures.ts"

/** Forwards, and notes for which host; whatever its name, `hub.test` is the server at `target`. */
const proxyTo = (target: URL) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const hosts: Array<string> = []
      const placeOf = (host: string) => {
        hosts.push(host)
        const { hostname, port } = new URL(host.startsWith("hub.test") ? target : `http://${host}`)
        return { host: hostname, port: Number(port) }
      }
      const server = Http.createServer((request, response) => {
        const url = new URL(request.url!)
        const { method, headers } = request
        const to = { ...placeOf(url.host), path: url.pathname + url.search, method: method!, headers }
        Http.request(to, (answer) => {
          response.writeHead(answer.statusCode!, answer.headers)
          answer.pipe(response)
        }).end()
      })
      server.on("connect", (request, socket) => {
        const other = connect(placeOf(request.url!), () => {
          socket.write("HTTP/1.1 200 OK\r\n\r\n")
          other.pipe(socket).pipe(other)
        })
        for (const end of [socket, other]) end.on("error", () => [socket, other].forEach((one) => one.destroy()))
      })
      await new Promise<void>((done) => server.listen(0, "127.0.0.1", done))
      return { server, hosts, address: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
    }),
    ({ server }) => Effect.sync(() => server.close().closeAllConnections()),
  )

describe("a proxy", () => {
  it.live("is used for what NO_PROXY does not except", () =>
    Effect.gen(function* () {
      const { server, cache } = yield* bench()
      const proxy = yield* proxyTo(new URL(server.endpoint))
      const script = fileURLToPath(new URL("children/fetch.ts", import.meta.url))
      const code = yield* Effect.promise(
        () =>
          new Promise((done) => {
            const env = {
              PATH: process.env["PATH"],
              HF_HOME: cache,
              HTTP_PROXY: proxy.address,
              NO_PROXY: "localhost,127.0.0.1",
            }
            spawn(process.execPath, [script, "http://hub.test", cache, NAME, "proxy"], {
              env,
              stdio: ["ignore", "ignore", "inherit"],
            }).once("exit", done)
          }),
      )
      assert.strictEqual(code, 0)
      assert.isAbove(Fs.readdirSync(join(cache, "models--acme--tiny", "snapshots", COMMIT)).length, 5)
      // The storage is at 127.0.0.1.
      assert.isTrue(server.requests.some(({ host }) => host === "storage"))
      assert.deepStrictEqual([...new Set(proxy.hosts.map((host) => host.replace(/:80$/, "")))], ["hub.test"])
    }),
  )

  const named = (proxy: { readonly [variable: string]: string }) => ({ proxy: Redacted.make(proxy) })

  it.live("that is no address is an error that does not show it", () =>
    Effect.gen(function* () {
      const { settings, server } = yield* bench()
      const hub = yield* client({ ...settings, ...named({ https_proxy: "me:secret@proxy:8080" }) })
      const error = yield* Effect.flip(hub.resolve(reference()))
      assert.strictEqual(error._tag, "Unreachable")
      assert.match(error.message, /https_proxy is not the address of a proxy; write http:\/\/<host>:<port>/)
      assert.notInclude(JSON.stringify(error), "secret")
      assert.deepStrictEqual(server.requests, [])
    }),
  )

  it.live("is told to Node once, and advised where Node cannot be told", () =>
    Effect.gen(function* () {
      const { settings } = yield* bench()
      const told: Array<unknown> = []
      const tell = (variables: unknown) => told.push(variables)
      Proxy.use(settings, tell)
      assert.deepStrictEqual(told, [])
      const proxied = { ...settings, ...named({ HTTPS_PROXY: "http://proxy:8080", no_proxy: "x" }) }
      for (let i = 0; i < 2; i++) assert.strictEqual(Proxy.use(proxied, tell), undefined)
      assert.deepStrictEqual(told, [{ HTTPS_PROXY: "http://proxy:8080", no_proxy: "x" }])
      assert.match(Proxy.advice(proxied, "ETIMEDOUT", false), /NODE_USE_ENV_PROXY=1.*NODE_EXTRA_CA_CERTS/)
      assert.strictEqual(Proxy.advice(proxied, "ETIMEDOUT", true), "")
      assert.strictEqual(Proxy.advice(settings, "ETIMEDOUT", false), "")
      assert.match(Proxy.advice(settings, "self-signed certificate in certificate chain", true), /NODE_EXTRA_CA_CERTS/)
    }),
  )
})
