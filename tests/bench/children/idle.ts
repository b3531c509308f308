/** What every evaluation has in memory before it holds a weight: the engine, and workers with ONNX Runtime. */
import * as Effect from "effect/Effect"
import { Pool } from "../../../src/compute/Pool.ts"
import * as Blocks from "../Blocks.ts"

await import("../../../src/cli/Run.ts")
await import("../../../src/engine/run/Run.ts")
await import("../../../src/engine/store/Store.ts")
const once = Effect.flatMap(Blocks.products(2, 8, 1), ({ pass }) => pass)
await Effect.runPromise(Effect.provide(once, Pool.layer(2)))
