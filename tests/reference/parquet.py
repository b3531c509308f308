"""Small Parquet files as pyarrow writes them, with their rows as JSON: writes tests/golden/parquet/."""

import datetime
import decimal
import json
import pathlib

import pyarrow
import pyarrow.parquet

FOLDER = pathlib.Path(__file__).parent.parent / "golden" / "parquet"
UTC = datetime.timezone.utc
COUNT = 7


def columns():
    """Every kind of column that a text data set has, some values missing."""
    when = datetime.datetime(2024, 2, 29, 23, 59, 58, 123456, UTC)
    arrays = {
        "text": pyarrow.array([f"line {i}\n\u00e9\U0001f642" if i != 2 else None for i in range(COUNT)]),
        "kind": pyarrow.array(["even" if i % 2 == 0 else "odd" for i in range(COUNT)]),
        "int8": pyarrow.array([i - 3 for i in range(COUNT)], pyarrow.int8()),
        "uint32": pyarrow.array([2**32 - 1 - i for i in range(COUNT)], pyarrow.uint32()),
        "int64": pyarrow.array([(2**53 - 1) - i if i != 4 else None for i in range(COUNT)], pyarrow.int64()),
        "float32": pyarrow.array([i / 4 for i in range(COUNT)], pyarrow.float32()),
        "float64": pyarrow.array([0.1 * i for i in range(COUNT)], pyarrow.float64()),
        "flag": pyarrow.array([i % 3 == 0 if i != 5 else None for i in range(COUNT)]),
        "day": pyarrow.array([datetime.date(1969, 12, 31 - i) for i in range(COUNT)]),
        "milli": pyarrow.array([when] * COUNT, pyarrow.timestamp("ms", "UTC")),
        "micro": pyarrow.array([when if i != 1 else datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)
                                for i in range(COUNT)], pyarrow.timestamp("us", "UTC")),
        "nano": pyarrow.array([1_709_251_198_123_456_789] * COUNT, pyarrow.int64()).cast(pyarrow.timestamp("ns", "UTC")),
        "choices": pyarrow.array([[f"c{j}" for j in range(i)] if i != 3 else None for i in range(COUNT)],
                                 pyarrow.list_(pyarrow.string())),
        "pair": pyarrow.array([{"label": str(i), "score": i} if i != 6 else None for i in range(COUNT)]),
        "turns": pyarrow.array([[{"role": "user", "tokens": [i, j]} for j in range(2)] for i in range(COUNT)]),
    }
    return pyarrow.table(arrays)


def iso(value):
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: iso(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [iso(inner) for inner in value]
    return value


def rows(table):
    out = []
    for i, row in enumerate(table.drop_columns(["milli", "micro", "nano"]).to_pylist()):
        row = iso(row)
        row["milli"] = "2024-02-29T23:59:58.123Z"
        row["micro"] = "1969-12-31T23:59:59.999999Z" if i == 1 else "2024-02-29T23:59:58.123456Z"
        row["nano"] = "2024-02-29T23:59:58.123456789Z"
        out.append({name: row[name] for name in table.column_names})
    return out


def write(name, table, **options):
    pyarrow.parquet.write_table(table, FOLDER / f"{name}.parquet", **options)


FOLDER.mkdir(parents=True, exist_ok=True)
table = columns()
for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
    write(codec, table, compression=codec, row_group_size=3, store_schema=False)
write("pages", table, compression="zstd", data_page_version="2.0", data_page_size=16, use_dictionary=False,
      row_group_size=5, store_schema=False, write_page_index=True)
(FOLDER / "rows.json").write_text(json.dumps(rows(table), indent=1, ensure_ascii=False) + "\n")
write("large", pyarrow.table({"id": pyarrow.array([1, 2**53 + 1], pyarrow.int64())}))
write("nan", pyarrow.table({"id": [1, 2], "x": [1.0, float("nan")]}))
write("decimal", pyarrow.table({"id": [1], "price": pyarrow.array([decimal.Decimal("1.10")])}))
write("bytes", pyarrow.table({"id": [1], "image": pyarrow.array([b"\xff\xfe\x00"])}))
write("empty", pyarrow.table({"id": pyarrow.array([], pyarrow.int64())}))
