/**
 * HTTP_PROXY, HTTPS_PROXY and NO_PROXY, which Node's `fetch` heeds only when it is told to. It is told once for the whole
 * process, before the first request to a hub.
 */
import * as Http from "node:http"
import * as Redacted from "effect/Redacted"
import type { ProxyVariables, Settings } from "./Settings.ts"

type Tell = (variables: ProxyVariables) => unknown

/** Not in every Node that we run on. */
const ofNode: Tell | undefined = (Http as { readonly setGlobalProxyFromEnv?: Tell }).setGlobalProxyFromEnv

let told = false

/** What is wrong with the proxy that the environment names, if anything. It is in use after the first call. */
export const use = ({ proxy }: Settings, tell: Tell | undefined = ofNode): string | undefined => {
  if (proxy === undefined || told || tell === undefined) return undefined
  const variables = Redacted.value(proxy)
  for (const [name, address] of Object.entries(variables)) {
    if (/^no_/i.test(name)) continue
    // The address may hold a password: it is not shown.
    if (!/^https?:$/.test(URL.parse(address)?.protocol ?? "")) {
      return `${name} is not the address of a proxy; write http://<host>:<port>`
    }
  }
  tell(variables)
  told = true
  return undefined
}

/** What to try where no connection comes about for this reason. */
export const advice = ({ proxy }: Settings, reason: string, tells = ofNode !== undefined): string => {
  const node =
    "set NODE_USE_ENV_PROXY=1, without which this version of Node does not use the proxy of the environment; "
  const authority = "set NODE_EXTRA_CA_CERTS to the file of the certificate authority's certificate; "
  const isDeaf = proxy !== undefined && !tells && process.env["NODE_USE_ENV_PROXY"] !== "1"
  // A proxy that looks into what passes signs it anew.
  return `${isDeaf ? node : ""}${isDeaf || /certificate|self.signed/i.test(reason) ? authority : ""}`
}
