/**
 * Shared memory that is used again. A SharedArrayBuffer is freed only once the garbage collectors of all threads that
 * have seen it have run, and none of them knows how large it is: streamed weights would pile up.
 */
import * as Slab from "./Slab.ts"

export interface Lending {
  /** A float32 slab with whatever was last in it. */
  readonly lend: (dims: ReadonlyArray<number>) => Slab.Slab
  /** Lent slabs that no thread uses any longer. What is never given back is left to the garbage collectors. */
  readonly giveBack: (slabs: { readonly [name: string]: Slab.Slab }) => void
}

export const make = (): Lending => {
  const idle = new Map<number, Array<Slab.Slab>>()
  return {
    lend: (dims) => {
      const known = idle.get(Slab.size(dims))?.pop()
      return known === undefined ? Slab.make("float32", dims) : { ...known, dims }
    },
    giveBack: (slabs) => {
      for (const slab of Object.values(slabs)) {
        const size = Slab.size(slab.dims)
        const same = idle.get(size)
        if (same) same.push(slab)
        else idle.set(size, [slab])
      }
    },
  }
}
