/** Every case of tests/golden/quantizers.json, computed by PyTorch (tests/reference/quantizers.py), bit for bit. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as Safetensors from "../../src/data/Safetensors.ts"
import * as TensorFile from "../../src/data/TensorFile.ts"
import { packedBytes, unpack } from "../../src/math/Bits.ts"
import * as Affine from "../../src/math/Affine.ts"

interface Case {
  readonly name: string
  readonly input: string
  readonly scheme: "asymmetric" | "symmetric" | "nf4"
  readonly bits: number
  readonly granularity: "tensor" | "channel" | "group"
  readonly group: number | null
  readonly range: Affine.Range
  readonly reconstruction: boolean
}

const golden = (name: string) => fileURLToPath(new URL(`../golden/${name}`, import.meta.url))

it.effect("quantizers.safetensors", () =>
  Effect.gen(function* () {
    const { cases } = JSON.parse(Fs.readFileSync(golden("quantizers.json"), "utf8")) as { cases: ReadonlyArray<Case> }
    const catalog = yield* Safetensors.read(golden("quantizers.safetensors"))
    const file = Fs.readFileSync(golden("quantizers.safetensors"))
    const floats = (name: string): Float32Array => {
      const entry = catalog.get(name)!
      const out = new Float32Array(entry.bytes / 4)
      TensorFile.readFloats(entry, 0, out.length, out)
      return out
    }
    const shorts = (name: string): Int16Array => {
      const { offset, bytes } = catalog.get(name)!
      return new Int16Array(Uint8Array.from(file.subarray(offset, offset + bytes)).buffer)
    }
    const affine = cases.filter(({ scheme }) => scheme !== "nf4")
    assert.isAbove(affine.length, 300)
    for (const { name, input, scheme, bits, granularity, group, range, reconstruction } of affine) {
      const [rows, cols] = catalog.get(`input.${input}`)!.shape as [number, number]
      const symmetric = scheme === "symmetric"
      const grid = { bits, symmetric, range }
      const by = granularity === "group" ? group! : granularity
      const q = Affine.quantize(floats(`input.${input}`), rows, cols, grid, by)
      assert.deepStrictEqual(q.scales, floats(`${name}.scale`), `${name}: scales`)
      if (!symmetric) assert.deepStrictEqual(Float32Array.from(q.zeros), floats(`${name}.zero`), `${name}: zero points`)
      const codes = new Int16Array(rows * cols)
      const row = new Uint8Array(cols)
      for (let r = 0; r < rows; r++) {
        unpack(q.codes, r * packedBytes(cols, bits), cols, bits, row)
        codes.set(
          row.map((code) => code),
          r * cols,
        )
      }
      const offset = symmetric ? 2 ** (bits - 1) : 0
      assert.deepStrictEqual(
        codes.map((code) => code - offset),
        shorts(`${name}.codes`),
        `${name}: codes`,
      )
      if (reconstruction) {
        const out = new Float32Array(rows * cols)
        Affine.dequantize(q, out)
        assert.deepStrictEqual(out, floats(`${name}.reconstruction`), `${name}: reconstruction`)
      }
    }
  }),
)
