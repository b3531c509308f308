/** The methods that describe a quantizer instead of applying one: what they put into the graph. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import dynamic from "../../src/methods/dynamic.ts"
import { ActivationQuantizer, IndivisibleGroup, KvQuantizer, StateQuantizer } from "../../src/methods/Method.ts"
import state from "../../src/methods/state.ts"
import fixed from "../../src/methods/static.ts"
import channel from "../../src/methods/channel.ts"
import token from "../../src/methods/token.ts"

const grid = { bits: 8, symmetric: false, range: "fixed" } as const

describe("activations", () => {
  it("dynamic", () => assert.deepStrictEqual(dynamic.quantizer(grid, {}), { kind: "dynamic", ...grid }))

  it("static takes the extremes of all channels", () => {
    const seen = { min: Float32Array.of(-1, -0.5, 0), max: Float32Array.of(0.5, 4.1, 1) }
    const asymmetric = fixed.quantizer(grid, seen)
    assert.deepStrictEqual(asymmetric, {
      kind: "static",
      ...grid,
      scale: Math.fround(Math.fround(5.1) / 255),
      zero: 50,
    })
    const symmetric = fixed.quantizer({ ...grid, symmetric: true }, seen)
    const scale = Math.fround(Math.fround(4.1) / 127)
    assert.deepStrictEqual(symmetric, { kind: "static", ...grid, symmetric: true, scale, zero: 0 })
  })

  it("static range of one sign", () => {
    const seen = { min: Float32Array.of(5), max: Float32Array.of(6) }
    assert.include(fixed.quantizer(grid, seen), { scale: Math.fround(6 / 255), zero: 0 })
    assert.include(fixed.quantizer({ ...grid, range: "compat" }, seen), { scale: Math.fround(1 / 255), zero: 0 })
  })
})

describe("KV cache", () => {
  const params = { ...grid, bits: 4, group: "head", point: "after-rope" } as const
  it("one scale per head, or per group inside it", () => {
    const four = { ...grid, bits: 4 }
    const head = token.quantizer(params, 64, {})
    assert.deepStrictEqual(head, { keys: four, values: four, group: 64, point: "after-rope" })
    const group = token.quantizer({ ...params, keys: 8, values: 2, group: 16, point: "before-rope" }, 64, {})
    assert.deepStrictEqual(group, { keys: grid, values: { ...grid, bits: 2 }, group: 16, point: "before-rope" })
  })
  it.effect("a group that does not divide the head is an error", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(token.plan({ ...params, group: 128 }, 64))
      assert.deepStrictEqual(
        error,
        new IndivisibleGroup({ tensor: "KV cache", length: 64, group: 128, nearest: [32, 64] }),
      )
    }),
  )
  it.effect("keys are quantized after rotary positions unless said otherwise", () =>
    Effect.gen(function* () {
      const decode = Schema.decodeUnknownEffect(Schema.Struct(token.params))
      assert.deepStrictEqual(yield* decode({ bits: 4 }), params)
      assert.deepInclude(yield* decode({ bits: 4, point: "before-rope" }), { point: "before-rope" })
      assert.isTrue(Exit.isFailure(yield* Effect.exit(decode({ bits: 4, point: "inside" }))))
    }),
  )
  it("keys per channel take each channel's range from what calibration saw", () => {
    const seen = { min: Float32Array.of(-1, 0), max: Float32Array.of(3, 7.5) }
    const own = { ...grid, bits: 4, point: "before-rope" } as const
    assert.deepStrictEqual(channel.quantizer(own, 2, seen), {
      keys: { ...grid, bits: 4 },
      values: { ...grid, bits: 4 },
      group: 2,
      point: "before-rope",
      channels: { scales: [Math.fround(4 / 15), 0.5], zeros: [4, 0] },
    })
    const symmetric = channel.quantizer({ ...own, symmetric: true, values: 8 }, 2, seen)
    assert.deepStrictEqual(symmetric.channels!.zeros, [0, 0])
    assert.deepStrictEqual(symmetric.values, { ...grid, symmetric: true })
  })
})

describe("recurrent states", () => {
  const params = { ...grid, bits: 4, group: "channel" } as const
  it.effect("one scale per channel, or per group of its state", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* state.quantizer(params, 16), { ...grid, bits: 4, group: 16 })
      assert.deepStrictEqual(yield* state.quantizer({ ...params, group: 8 }, 16), { ...grid, bits: 4, group: 8 })
    }),
  )
  it.effect("a group that does not divide the state is an error", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(state.quantizer({ ...params, group: 5 }, 16))
      assert.deepStrictEqual(
        error,
        new IndivisibleGroup({ tensor: "recurrent state", length: 16, group: 5, nearest: [2, 4, 8, 16] }),
      )
    }),
  )
})

it.effect("quantizers are plain JSON", () =>
  Effect.gen(function* () {
    const seen = { min: Float32Array.of(-1), max: Float32Array.of(1) }
    for (const quantizer of [dynamic.quantizer(grid, {}), fixed.quantizer(grid, seen)]) {
      const json: unknown = JSON.parse(JSON.stringify(quantizer))
      assert.deepStrictEqual(yield* Schema.decodeUnknownEffect(ActivationQuantizer)(json), quantizer)
    }
    const kv = token.quantizer({ ...grid, group: "head", point: "after-rope" }, 8, {})
    assert.deepStrictEqual(yield* Schema.decodeUnknownEffect(KvQuantizer)(JSON.parse(JSON.stringify(kv))), kv)
    const own = yield* state.quantizer({ ...grid, group: "channel" }, 8)
    assert.deepStrictEqual(yield* Schema.decodeUnknownEffect(StateQuantizer)(JSON.parse(JSON.stringify(own))), own)
  }),
)
