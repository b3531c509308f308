/** Against files that pyarrow wrote (tests/reference/parquet.py), and against files that nobody should have written. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Parquet from "../../src/data/Parquet.ts"
import { folder, write } from "../support/folder.ts"

const golden = fileURLToPath(new URL("../golden/parquet/", import.meta.url))
const rows: ReadonlyArray<{ readonly [column: string]: unknown }> = JSON.parse(
  readFileSync(join(golden, "rows.json"), "utf8"),
)
const at = (name: string) => join(golden, `${name}.parquet`)
const read = (file: string, selection: Parquet.Selection = {}) => Stream.runCollect(Parquet.stream(file, selection))
const message = (file: string, selection: Parquet.Selection = {}) =>
  Effect.map(Effect.flip(read(file, selection)), (error) => {
    assert.strictEqual(error._tag, "BadParquet")
    assert.include(error.message, file)
    return error.message.slice(file.length)
  })

describe("rows", () => {
  for (const name of ["none", "snappy", "gzip", "brotli", "zstd", "lz4", "pages"]) {
    it.effect(`of ${name}.parquet are pyarrow's`, () =>
      Effect.gen(function* () {
        assert.deepStrictEqual([...(yield* read(at(name)))], [...rows])
      }),
    )
  }

  it.effect("are as many as asked for, in the columns asked for", () =>
    Effect.gen(function* () {
      const columns = ["pair", "int8"]
      const pick = (count: number) => rows.slice(0, count).map(({ pair, int8 }) => ({ pair, int8 }))
      for (const name of ["snappy", "pages"]) {
        for (const limit of [0, 1, 3, 4, 7, 100]) {
          assert.deepStrictEqual([...(yield* read(at(name), { columns, limit }))], pick(limit), `${name} ${limit}`)
        }
      }
      assert.deepStrictEqual(Object.keys((yield* read(at("snappy"), { columns, limit: 1 }))[0]!), columns)
    }),
  )

  it.effect("are read as they are taken: what comes after may be damaged", () =>
    Effect.gen(function* () {
      const bytes = readFileSync(at("none"))
      // "line 6" lies in the third row group.
      const file = write(
        yield* folder,
        "x.parquet",
        bytes.fill(0xff, bytes.indexOf("line 6"), bytes.indexOf("line 6") + 6),
      )
      const first = yield* Stream.runCollect(Stream.take(Parquet.stream(file), 6))
      assert.deepStrictEqual([...first], rows.slice(0, 6))
      assert.match(yield* message(file), /: column 'text', rows 6 to 7: .*valid/)
    }),
  )

  it.effect("may be none", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual([...(yield* read(at("empty")))], [])
    }),
  )
})

describe("what JSON cannot say is an error, in the columns that are read", () => {
  const cases: ReadonlyArray<readonly [name: string, message: RegExp, fine: boolean]> = [
    ["large", /column 'id', rows 0 to 2: 9007199254740993 is too large/, false],
    ["nan", /column 'x', rows 0 to 2: NaN is no JSON number/, true],
    ["decimal", /has decimals in column 'price'/, true],
    ["bytes", /column 'image', rows 0 to 1: .*not valid/, true],
  ]
  for (const [name, expected, fine] of cases) {
    it.effect(name, () =>
      Effect.gen(function* () {
        assert.match(yield* message(at(name)), expected)
        if (fine) assert.strictEqual((yield* read(at(name), { columns: ["id"] }))[0]!["id"], 1)
      }),
    )
  }
  it.effect("so is a column that is not there", () =>
    Effect.map(message(at("nan"), { columns: ["y"] }), (error) =>
      assert.match(error, /has no column 'y'; it has id, x/),
    ),
  )
})

describe("a file that is not what it should be", () => {
  const bytes = readFileSync(at("snappy"))
  const length = (n: number) => {
    const changed = Buffer.from(bytes)
    changed.writeUInt32LE(n, bytes.length - 8)
    return changed
  }
  const cases: ReadonlyArray<readonly [what: string, bytes: Uint8Array, message: RegExp]> = [
    ["is empty", Buffer.alloc(0), /has 0 bytes; a Parquet file has at least 12/],
    ["is something else", Buffer.from("q,a\n1,2\n3,4\n5,6\n"), /is no Parquet file: .*footer/],
    ["ends early", bytes.subarray(0, -1), /is no Parquet file/],
    ["has a footer beyond its start", length(bytes.length), /is no Parquet file/],
    ["has a footer of 4 GB", length(2 ** 32 - 1), /is no Parquet file/],
    ["lacks its beginning", bytes.subarray(4000), /./],
    ["has a footer of nothing", length(0), /./],
  ]
  for (const [what, content, expected] of cases) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const file = write(yield* folder, "x.parquet", content)
        assert.match(yield* message(file), expected)
      }),
    )
  }
  it.effect("is not there", () => Effect.map(message("/nowhere/x.parquet"), (error) => assert.match(error, /ENOENT/)))

  it.effect("has one other byte: an error or other rows, never a crash", () =>
    Effect.gen(function* () {
      const root = yield* folder
      let refused = 0
      for (let i = 0; i < 300; i++) {
        const position = Math.floor((i * bytes.length) / 300)
        const file = write(root, "x.parquet", bytes.with(position, bytes[position]! ^ (1 << (i % 8))))
        const result = yield* Effect.result(read(file))
        if (result._tag === "Failure") {
          assert.strictEqual(result.failure._tag, "BadParquet")
          refused++
        }
      }
      assert.isAbove(refused, 30)
    }),
  )
})
