/** GGUF files, byte by byte. */

type Part = Uint8Array
const encoder = new TextEncoder()

const concatenate = (parts: ReadonlyArray<Part>): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(parts.reduce((n, part) => n + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}
export const join = (...parts: ReadonlyArray<Part>) => concatenate(parts)
export const u32 = (value: number): Part => new Uint8Array(Uint32Array.of(value).buffer)
export const u64 = (value: number | bigint): Part => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer)
export const text = (value: string | Uint8Array): Part => {
  const bytes = typeof value === "string" ? encoder.encode(value) : value
  return join(u64(bytes.length), bytes)
}

/** A key with the number of its type and its bytes. */
export interface Key {
  readonly key: string
  readonly type: number
  readonly value: Part
}
export const string = (key: string, value: string): Key => ({ key, type: 8, value: text(value) })
export const number = (key: string, value: number): Key => ({ key, type: 4, value: u32(value) })
export const flag = (key: string, value: boolean): Key => ({ key, type: 7, value: Uint8Array.of(Number(value)) })
export const strings = (key: string, values: ReadonlyArray<string>): Key => ({
  key,
  type: 9,
  value: concatenate([u32(8), u64(values.length), ...values.map(text)]),
})
export const floats = (key: string, values: ReadonlyArray<number>): Key => ({
  key,
  type: 9,
  value: join(u32(6), u64(values.length), new Uint8Array(Float32Array.from(values).buffer)),
})
export const integers = (key: string, values: ReadonlyArray<number>): Key => ({
  key,
  type: 9,
  value: join(u32(5), u64(values.length), new Uint8Array(Int32Array.from(values).buffer)),
})

export interface Tensor {
  readonly name: string
  /** Innermost first. */
  readonly sizes: ReadonlyArray<number | bigint>
  /** The number of a ggml type. */
  readonly type: number
  readonly offset: number | bigint
}
export interface File {
  readonly version?: number
  readonly keys?: ReadonlyArray<Key>
  readonly tensors?: ReadonlyArray<Tensor>
  /** Bytes of data, and what the header is padded to before them. */
  readonly data?: number | Uint8Array
  readonly alignment?: number
}

export const header = ({ version = 3, keys = [], tensors = [] }: File): Uint8Array<ArrayBuffer> =>
  join(
    encoder.encode("GGUF"),
    u32(version),
    u64(tensors.length),
    u64(keys.length),
    ...keys.flatMap(({ key, type, value }) => [text(key), u32(type), value]),
    ...tensors.flatMap(({ name, sizes, type, offset }) => [
      text(name),
      u32(sizes.length),
      ...sizes.map(u64),
      u32(type),
      u64(offset),
    ]),
  )

export const encode = (file: File): Uint8Array<ArrayBuffer> => {
  const head = header(file)
  const alignment = file.alignment ?? 32
  const data = typeof file.data === "object" ? file.data : new Uint8Array(file.data ?? 0)
  return join(head, new Uint8Array(-head.length & (alignment - 1)), data)
}
