/**
 * Rows of a Parquet file as plain JSON values, a row group at a time.
 *
 * Whole numbers are numbers where a double holds them exactly, and an error where it does not; so are NaN, infinities,
 * decimals and raw bytes, which JSON cannot say. Dates and times are ISO 8601 texts, lists arrays, structs objects,
 * missing values `null`. Every length in the file is checked against the file before something of that size is made.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Compressors, FileMetaData, ParquetParsers, SchemaTree } from "hyparquet"
import * as Fs from "node:fs"
import { readFully } from "./TensorFile.ts"

/** A Parquet file that cannot be read: names the file and the column. */
export class BadParquet extends Schema.TaggedError<BadParquet>()("BadParquet", {
  file: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file}: ${this.reason}`
  }
}

/** By column. */
export type Row = { readonly [column: string]: unknown }

export interface Selection {
  /** In this order; all of them if not given. */
  readonly columns?: ReadonlyArray<string>
  /** The first rows only. */
  readonly limit?: number
}

/** What a page, and a row group, may be unpacked to. Writers make pages of about a megabyte. */
const MAX_PAGE = 1 << 28
const MAX_GROUP = 2 ** 32

const isCount = (n: bigint | number) => n >= 0 && Number.isSafeInteger(Number(n))

/** All rows, read as they are asked for. */
export const stream = (file: string, selection: Selection = {}): Stream.Stream<Row, BadParquet> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const { columns, groups, read } = yield* open(file, selection)
      const rows = Effect.fnUntraced(function* ({ first, end }: Range) {
        const values: Array<ReadonlyArray<unknown>> = []
        for (const column of columns) values.push(yield* read(column, first, end))
        return Array.from({ length: end - first }, (_, row) =>
          Object.fromEntries(columns.map((column, i) => [column, values[i]![row]])),
        )
      })
      return Stream.fromIterable(groups).pipe(Stream.mapEffect(rows), Stream.flattenIterable)
    }),
  )

interface Range {
  readonly first: number
  readonly end: number
}

const open = Effect.fnUntraced(function* (file: string, { columns: wanted, limit }: Selection) {
  const bad = (reason: string) => new BadParquet({ file, reason })
  const because = (cause: unknown) => bad((cause as Error).message)
  const handle = yield* Effect.acquireRelease(
    Effect.try({ try: () => Fs.openSync(file, "r"), catch: because }),
    (handle) => Effect.sync(() => Fs.closeSync(handle)),
  )
  const size = yield* Effect.try({ try: () => Fs.fstatSync(handle).size, catch: because })
  if (size < 12) return yield* bad(`has ${size} bytes; a Parquet file has at least 12`)
  const source = {
    byteLength: size,
    slice: (start: number, end = size) => {
      if (!(start >= 0 && start <= end && end <= size)) throw new Error(`names bytes ${start} to ${end} of its ${size}`)
      const bytes = new Uint8Array(end - start)
      if (readFully(handle, bytes, bytes.length, start) < bytes.length) throw new Error("ends early; it has changed")
      return bytes.buffer
    },
  }
  const { parquetMetadataAsync, parquetScan, parquetSchema } = yield* Effect.promise(() => import("hyparquet"))
  const metadata = yield* Effect.tryPromise({
    try: () => parquetMetadataAsync(source, { geoparquet: false }),
    catch: (cause) => bad(`is no Parquet file: ${(cause as Error).message}`),
  })
  // Types of a damaged footer are not what they are declared to be: whatever is read of it may throw.
  const { columns, problem } = yield* Effect.try({
    try: () => {
      const fields = parquetSchema(metadata).children
      const names = fields.map(({ element }) => element.name)
      const columns = wanted ?? names
      const twice = names.find((name, i) => names.indexOf(name) !== i)
      const problem =
        twice === undefined
          ? (columns.map((column) => lacking(column, fields)).find((reason) => reason !== undefined) ??
            damage(metadata, size))
          : `has two columns '${twice}'`
      return { columns, problem }
    },
    catch: (cause) => bad(`has a footer that makes no sense: ${(cause as Error).message}`),
  })
  if (problem !== undefined) return yield* bad(problem)

  const scan = yield* Effect.tryPromise({
    try: async () =>
      parquetScan({
        file: source,
        metadata,
        columns: [...columns],
        parsers,
        compressors: bounded((await import("hyparquet-compressors")).compressors),
        geoparquet: false,
      }),
    catch: because,
  })
  const read = (column: string, first: number, end: number) =>
    Effect.tryPromise({
      try: async () => {
        const data: ArrayLike<unknown> = await scan.readColumn({ column, rowStart: first, rowEnd: end })
        if (data.length !== end - first) throw new Error(`holds ${data.length} values for ${end - first} rows`)
        return Array.from(data, plain)
      },
      catch: (cause) => bad(`column '${column}', rows ${first} to ${end}: ${(cause as Error).message}`),
    })
  return { columns, groups: groupsOf(metadata, limit ?? Infinity), read }
})

const groupsOf = (metadata: FileMetaData, limit: number): ReadonlyArray<Range> => {
  let first = 0
  const groups: Array<Range> = []
  for (const group of metadata.row_groups) {
    const end = first + Number(group.num_rows)
    if (first < limit && first < end) groups.push({ first, end: Math.min(end, limit) })
    first = end
  }
  return groups
}

/** Why a column cannot be read, by the schema alone. */
const lacking = (column: string, fields: ReadonlyArray<SchemaTree>): string | undefined => {
  const field = fields.find(({ element }) => element.name === column)
  if (field === undefined) {
    return `has no column '${column}'; it has ${fields.map(({ element }) => element.name).join(", ")}`
  }
  const isDecimal = ({ element, children }: SchemaTree): boolean =>
    element.converted_type === "DECIMAL" || element.logical_type?.type === "DECIMAL" || children.some(isDecimal)
  return isDecimal(field) ? `has decimals in column '${column}', which JSON numbers cannot hold exactly` : undefined
}

/** What cannot be true of a file of this size. */
const damage = ({ num_rows, row_groups }: FileMetaData, size: number): string | undefined => {
  if (!Array.isArray(row_groups) || !row_groups.every((group) => isCount(group.num_rows))) return "has no row counts"
  const rows = row_groups.reduce((sum, group) => sum + group.num_rows, 0n)
  if (rows !== num_rows || !isCount(rows)) return `says it has ${num_rows} rows; its row groups have ${rows}`
  for (const { total_byte_size: unpacked, columns, num_rows: count } of row_groups) {
    if (unpacked > MAX_GROUP) return `has a row group of ${unpacked} bytes; at most ${MAX_GROUP} are read at once`
    for (const { file_path: elsewhere, meta_data: chunk } of columns) {
      if (elsewhere !== undefined) return "keeps columns in other files"
      if (chunk === undefined) return "has an encrypted column"
      const start = chunk.dictionary_page_offset ?? chunk.data_page_offset
      const name = chunk.path_in_schema.join(".")
      if (!isCount(start) || start + chunk.total_compressed_size > size || chunk.total_compressed_size < 0) {
        return `has column ${name} at bytes ${start} to ${start + chunk.total_compressed_size} of its ${size}`
      }
      if (chunk.num_values < count) return `has ${chunk.num_values} values in column ${name} for ${count} rows`
    }
  }
  return undefined
}

/** Refuses pages that declare more than any writer makes. */
const bounded = (compressors: Compressors): Compressors =>
  Object.fromEntries(
    Object.entries(compressors).map(([codec, unpack]) => [
      codec,
      (input: Uint8Array, length: number) => {
        if (!(length >= 0 && length <= MAX_PAGE)) throw new Error(`has a page of ${length} bytes`)
        // Nothing has a packed form, too, which the LZ4 of hyparquet-compressors stumbles over.
        if (length === 0) return new Uint8Array(0)
        const output = unpack(input, length)
        if (output.length !== length) throw new Error(`has a page of ${output.length} bytes that says it has ${length}`)
        return output
      },
    ]),
  )

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** `YYYY-MM-DDTHH:MM:SS.f…Z` from a count of parts of a second since 1970, all of its digits kept. */
const isoTime = (ticks: bigint, digits: number): string => {
  const perSecond = 10n ** BigInt(digits)
  const rest = ((ticks % perSecond) + perSecond) % perSecond
  const seconds = Number((ticks - rest) / perSecond)
  return `${new Date(seconds * 1000).toISOString().slice(0, -5)}.${`${rest}`.padStart(digits, "0")}Z`
}

const parsers: Partial<ParquetParsers> = {
  timestampFromMilliseconds: (ticks) => isoTime(BigInt(ticks), 3),
  timestampFromMicroseconds: (ticks) => isoTime(BigInt(ticks), 6),
  timestampFromNanoseconds: (ticks) => isoTime(BigInt(ticks), 9),
  dateFromDays: (days) => new Date(days * 86_400_000).toISOString().slice(0, 10),
  stringFromBytes: (bytes) => bytes && utf8.decode(bytes),
  jsonFromBytes: (bytes) => bytes && JSON.parse(utf8.decode(bytes)),
}

/** Throws for what JSON cannot say. */
const plain = (value: unknown): unknown => {
  if (value === undefined || value === null) return null
  if (typeof value === "bigint") {
    if (!Number.isSafeInteger(Number(value))) throw new Error(`${value} is too large for a JSON number`)
    return Number(value)
  }
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new Error(`${value} is no JSON number`)
    return value
  }
  if (value instanceof Uint8Array) throw new Error("holds raw bytes; choose other columns")
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return Array.from(value as ArrayLike<unknown>, plain)
  if (typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]))
  }
  return value
}
