/** Tensors in shared memory: allocated once, written by workers, never copied between threads. */

const views = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array } as const
export type SlabType = keyof typeof views

/** A tensor: `buffer` from byte `offset` on, row-major. */
export interface Slab {
  readonly type: SlabType
  readonly dims: ReadonlyArray<number>
  readonly buffer: SharedArrayBuffer
  readonly offset: number
}

export const size = (dims: ReadonlyArray<number>): number => dims.reduce((n, d) => n * d, 1)

/** A zeroed slab of its own. */
export const make = (type: SlabType, dims: ReadonlyArray<number>): Slab => ({
  type,
  dims,
  buffer: new SharedArrayBuffer(size(dims) * views[type].BYTES_PER_ELEMENT),
  offset: 0,
})

export const floats = (slab: Slab): Float32Array<SharedArrayBuffer> =>
  new Float32Array(slab.buffer, slab.offset, size(slab.dims))
export const longs = (slab: Slab): BigInt64Array<SharedArrayBuffer> =>
  new BigInt64Array(slab.buffer, slab.offset, size(slab.dims))

export const of = (dims: ReadonlyArray<number>, values: Float32Array): Slab => {
  const slab = make("float32", dims)
  floats(slab).set(values)
  return slab
}
export const ints = (dims: ReadonlyArray<number>, values: ArrayLike<number>): Slab => {
  const slab = make("int32", dims)
  new Int32Array(slab.buffer).set(values)
  return slab
}
export const int64s = (dims: ReadonlyArray<number>, value: (index: number) => number): Slab => {
  const slab = make("int64", dims)
  const view = longs(slab)
  for (let i = 0; i < view.length; i++) view[i] = BigInt(value(i))
  return slab
}

/** Rows [first, first + count) of a slab's leading axis, sharing its memory. */
export const rows = (slab: Slab, first: number, count: number): Slab => {
  const [, ...rest] = slab.dims
  const stride = size(rest) * views[slab.type].BYTES_PER_ELEMENT
  return { ...slab, dims: [count, ...rest], offset: slab.offset + first * stride }
}

/** The typed array over a slab, as ONNX Runtime wants it. */
export const view = ({ buffer, dims, offset, type }: Slab) => {
  const View = views[type] as new (buffer: SharedArrayBuffer, offset: number, length: number) => ArrayBufferView
  return new View(buffer, offset, size(dims))
}
