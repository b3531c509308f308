/** Runs in a worker: reads a tensor once, for its digest and for values no model may have. */
import { createHash } from "node:crypto"
import { closeSync, openSync } from "node:fs"
import { readFully } from "../data/TensorFile.ts"
import { blockOf, type Dtype, firstNonFinite } from "../math/Elements.ts"

export interface InspectArgument {
  readonly path: string
  readonly offset: number
  readonly bytes: number
  readonly tensor: string
  readonly dtype: Dtype
}

const SLICE = 4 << 20

/** SHA-256 of the tensor's bytes. Throws at the first NaN or infinity. */
export const inspect = ({ bytes, dtype, offset, path, tensor }: InspectArgument): string => {
  const hash = createHash("sha256")
  const block = blockOf(dtype)
  const whole = SLICE - (SLICE % block.bytes)
  const slice = new Uint8Array(Math.min(whole, bytes))
  const file = openSync(path, "r")
  try {
    for (let done = 0; done < bytes;) {
      const want = Math.min(whole, bytes - done)
      if (readFully(file, slice, want, offset + done) < want) throw new Error(`${path} ends inside tensor ${tensor}`)
      const part = slice.subarray(0, want)
      const bad = firstNonFinite(dtype, part)
      if (bad >= 0) {
        const index = (done / block.bytes) * block.elements + bad
        throw new Error(
          `${path}: tensor ${tensor} holds NaN or infinity at element ${index}; the checkpoint is damaged`,
        )
      }
      hash.update(part)
      done += want
    }
    return hash.digest("hex")
  } finally {
    closeSync(file)
  }
}
