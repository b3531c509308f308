"""Files that torch.save writes, for the reader of PyTorch checkpoints, and what is in them.

tests/golden/torch/values.safetensors holds every tensor row-major, copied; it is what the reader must find in

    zip-<2|3|4|5>.bin    the zip format, by pickle protocol
    legacy-<2|4>.bin     the format before PyTorch 1.6
    index/               two files in the zip format, and their index

narrow.bin has the types without a storage of their own, beside narrow.safetensors. The others must be refused:

    nested.bin           a state dict one level down
    extra.bin            an entry that is no tensor
    negative.bin         a lazily negated tensor: its elements are not the stored ones
    hostile.bin          a call of os.system
"""

import json
import os
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import Tensor

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "torch"
SEED = 20240611
BASE = 1_000_000


def state() -> OrderedDict[str, Tensor]:
    """Each type, and each way in which a tensor takes elements of a storage."""
    random = torch.Generator().manual_seed(SEED)
    matrix = torch.randn(6, 5, generator=random)
    cube = torch.randn(3, 4, 5, generator=random).half()
    tensors = OrderedDict(
        {
            "f32": matrix,
            "f16": cube,
            "bf16": torch.randn(7, generator=random).bfloat16(),
            "f64": torch.randn(2, 3, generator=random, dtype=torch.float64),
            "i64": torch.tensor([-(2**62), -1, 0, 2**62]),
            "i32": torch.tensor([[-(2**31)], [2**31 - 1]], dtype=torch.int32),
            "i16": torch.tensor([-(2**15), 2**15 - 1], dtype=torch.int16),
            "i8": torch.tensor([-128, 127, 1], dtype=torch.int8),
            "u8": torch.arange(250, 256, dtype=torch.uint8),
            "bool": torch.tensor([True, False, True]),
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 3),
            "empty.sliced": torch.zeros(2, 0, 3)[1:],
            "tied": matrix,
            "rows": matrix[2:4],
            "transposed": matrix.t(),
            "columns": matrix[:, 1:4],
            "every_second": matrix[1::2, ::2],
            "row": matrix[3],
            "column": matrix[:, 2],
            "element": matrix[4, 4],
            "permuted": cube.permute(2, 0, 1),
            "expanded": torch.arange(3.0).reshape(3, 1).expand(3, 4),
            "ones.sized": torch.arange(8.0)[::2].reshape(1, 4, 1)[:, :1],
            "parameter": torch.nn.Parameter(torch.randn(3, 2, generator=random)),
            "parameter.frozen": torch.nn.Parameter(torch.arange(4.0), requires_grad=False),
            "größe.重み": torch.tensor([1.0]),
            "__proto__": torch.tensor([2.0]),
            "constructor": torch.tensor([3.0]),
            "": torch.tensor([4.0]),
        }
    )
    tensors._metadata = OrderedDict({"": {"version": 1}, "layer": {"version": 2}})
    return tensors


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


class Numbered(type):
    """Stands for `str` while a legacy file is written: its storages are named by their addresses, which differ from
    run to run. Here they are numbered as they come."""

    seen: dict[int, str] = {}

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, str)

    def __call__(cls, value: object) -> str:
        if isinstance(value, int) and value > BASE:
            return cls.seen.setdefault(value, str(BASE + len(cls.seen)))
        return str(value)


class Text(metaclass=Numbered):
    pass


def save_legacy(tensors: object, path: Path, protocol: int) -> None:
    Numbered.seen.clear()
    with mock.patch.object(torch.serialization, "str", Text, create=True):
        torch.save(tensors, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("echo hostile",)


def main() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    tensors = state()
    save_file(copies(tensors), GOLDEN / "values.safetensors")
    for protocol in (2, 3, 4, 5):
        torch.save(tensors, GOLDEN / f"zip-{protocol}.bin", pickle_protocol=protocol)
    for protocol in (2, 4):
        save_legacy(tensors, GOLDEN / f"legacy-{protocol}.bin", protocol)

    index = GOLDEN / "index"
    index.mkdir(exist_ok=True)
    shards = {f"pytorch_model-0000{i + 1}-of-00002.bin": list(tensors)[i::2] for i in range(2)}
    for shard, names in shards.items():
        torch.save({name: tensors[name] for name in names}, index / shard)
    weight_map = {name: shard for shard, names in shards.items() for name in names}
    (index / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}, indent=1) + "\n"
    )

    narrow = {
        "e4m3": torch.arange(6.0).to(torch.float8_e4m3fn),
        "e5m2": torch.arange(6.0).reshape(2, 3).to(torch.float8_e5m2).t(),
        "u16": torch.arange(65530, 65536).to(torch.uint16)[2:],
        "u32": torch.tensor([2**32 - 1]).to(torch.uint32),
        "u64": torch.tensor([[2**62, 1]]).to(torch.uint64),
    }
    torch.save(narrow, GOLDEN / "narrow.bin")
    save_file({name: tensor.contiguous().clone() for name, tensor in narrow.items()}, GOLDEN / "narrow.safetensors")

    small = OrderedDict(a=torch.ones(2))
    torch.save({"epoch": 3, "state_dict": small, "lr": 0.1}, GOLDEN / "nested.bin")
    torch.save({**small, "step": 7}, GOLDEN / "extra.bin")
    torch.save({"a": torch.complex(torch.ones(2), torch.ones(2)).conj().imag}, GOLDEN / "negative.bin")
    torch.save({**small, "b": Hostile()}, GOLDEN / "hostile.bin")


if __name__ == "__main__":
    main()
