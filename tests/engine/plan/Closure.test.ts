import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import * as Closure from "../../../src/engine/plan/Closure.ts"
import * as Fingerprint from "../../../src/engine/plan/Fingerprint.ts"
import { Store } from "../../../src/engine/store/Store.ts"
import { folder } from "../Workbench.ts"

describe("Closure", () => {
  it.live("names the files whose code changed, and only those", () =>
    Effect.gen(function* () {
      const store = yield* Store
      const at = yield* folder
      const write = (name: string, text: string) => writeFileSync(join(at, name), text)
      const fingerprint = () =>
        Fingerprint.make({ get: () => undefined, set: () => {} }, Closure.remember(store))(join(at, "stage.ts"))
      write(
        "stage.ts",
        `import { half } from "./half.ts"\nimport "./other.ts"\nexport default (n: number) => half(n)\n`,
      )
      write("half.ts", "export const half = (n: number) => n / 2\n")
      write("other.ts", "export {}\n")
      const before = yield* fingerprint()
      write("half.ts", "// A comment changes nothing.\nexport const half = (n: number): number => n / 2\n")
      assert.strictEqual(yield* fingerprint(), before)
      write("half.ts", "export const half = (n: number) => n / 2 + 1\n")
      const after = yield* fingerprint()
      yield* Effect.sleep(10)
      assert.deepStrictEqual(
        Closure.changes(store, before, after).map((name) => basename(name)),
        ["half.ts"],
      )
      assert.deepStrictEqual(Closure.changes(store, "unknown", after), [])
    }).pipe(Effect.provide(Store.layerMemory)),
  )

  it.live("knows the versions of the packages that the code computes with", () =>
    Effect.gen(function* () {
      const store = yield* Store
      const module = new URL("../../../src/engine/plan/Module.ts", import.meta.url).pathname
      const code = yield* Fingerprint.make({ get: () => undefined, set: () => {} }, Closure.remember(store))(module)
      yield* Effect.sleep(10)
      assert.match(Closure.packages(store, code)["effect"] ?? "", /^4\./)
    }).pipe(Effect.provide(Store.layerMemory)),
  )
})
