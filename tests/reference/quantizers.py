"""Reference quantizers, and the golden file that Assay's quantizers are tested against.

This is a float32 port of the quantizer of Li et al., "Evaluating Quantized Large Language Models" (ICML 2024).
A tensor is cut into groups, each with one scale s and one zero point z. With b bits:

    asymmetric   s = max(max - min, 1e-5) / (2^b - 1)
                 z = clamp(-round(min / s), 0, 2^b - 1)
                 q = clamp(round(x / s) + z, 0, 2^b - 1)
    symmetric    s = max(absmax, 1e-5) / (2^(b-1) - 1)
                 z = 0
                 q = clamp(round(x / s), -2^(b-1), 2^(b-1) - 1)
    both         reconstruction = (q - z) * s

Rounding is half to even. The published code does not widen [min, max] to hold 0, so the zero point of a group whose
values share one sign saturates and the group is reconstructed badly. That is range "compat"; range "fixed" takes
min(min, 0) and max(max, 0) first. The symmetric range always holds 0, so the two agree there.

NF4 (Dettmers et al., QLoRA, 2023) is the four-bit codebook beside them: s = max(absmax, 1e-5), q is the index of the
level nearest to x / s, and the reconstruction is level[q] * s.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

Scheme = Literal["asymmetric", "symmetric", "nf4"]
Range = Literal["compat", "fixed"]
Granularity = Literal["tensor", "channel", "group"]

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
SEED = 20240609
MINIMUM_RANGE = 1e-5
NF4_LEVELS = torch.tensor(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    dtype=torch.float32,
)


class Quantized(NamedTuple):
    """Codes and reconstruction in the shape of the input; one scale and one zero point per group, in order."""

    codes: Tensor
    scale: Tensor
    zero: Tensor
    reconstruction: Tensor


def groups_of(tensor: Tensor, granularity: Granularity, group: int | None = None) -> Tensor:
    """Reshape to one row per group: the whole tensor, the last dimension, or `group` contiguous entries of it."""
    if granularity == "tensor":
        return tensor.reshape(1, -1)
    if granularity == "channel":
        return tensor.reshape(-1, tensor.shape[-1])
    if group is None or tensor.shape[-1] % group != 0:
        raise ValueError(f"a last dimension of {tensor.shape[-1]} does not split into groups of {group}")
    return tensor.reshape(-1, group)


def asymmetric(rows: Tensor, bits: int, value_range: Range) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scale and zero point of each row, by the asymmetric formula above."""
    levels = 2**bits - 1
    low, high = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
    if value_range == "fixed":
        low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low).clamp(min=MINIMUM_RANGE) / levels
    zero = (-torch.round(low / scale)).clamp(0, levels)
    codes = (torch.round(rows / scale) + zero).clamp(0, levels)
    return codes, scale, zero


def symmetric(rows: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scale and (zero) zero point of each row, by the symmetric formula above; needs two bits."""
    if bits < 2:
        raise ValueError("symmetric quantization needs at least two bits")
    top = 2 ** (bits - 1) - 1
    scale = rows.abs().amax(dim=1, keepdim=True).clamp(min=MINIMUM_RANGE) / top
    codes = torch.round(rows / scale).clamp(-top - 1, top)
    return codes, scale, torch.zeros_like(scale)


def nf4(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scale of each row, by the NF4 rule above."""
    scale = rows.abs().amax(dim=1, keepdim=True).clamp(min=MINIMUM_RANGE)
    codes = ((rows / scale).unsqueeze(-1) - NF4_LEVELS).abs().argmin(dim=-1)
    return codes, scale


def quantize(
    tensor: Tensor,
    scheme: Scheme,
    bits: int,
    granularity: Granularity,
    group: int | None = None,
    value_range: Range = "compat",
) -> Quantized:
    """Quantize a float32 tensor; see the formulas at the top of this file."""
    if tensor.dtype != torch.float32:
        raise TypeError(f"expected float32, got {tensor.dtype}")
    rows = groups_of(tensor, granularity, group)
    if scheme == "nf4":
        codes, scale = nf4(rows)
        zero = torch.zeros_like(scale)
        reconstruction = NF4_LEVELS[codes] * scale
    else:
        codes, scale, zero = asymmetric(rows, bits, value_range) if scheme == "asymmetric" else symmetric(rows, bits)
        reconstruction = (codes - zero) * scale
    # Adding 0 turns the negative zeros that rounding leaves behind into zeros.
    return Quantized(
        codes=codes.to(torch.int16).reshape(tensor.shape),
        scale=scale.flatten(),
        zero=zero.flatten() + 0.0,
        reconstruction=reconstruction.reshape(tensor.shape) + 0.0,
    )


def fake_quantize(tensor: Tensor, bits: int, granularity: Granularity, group: int | None, value_range: Range) -> Tensor:
    """The asymmetric reconstruction of `tensor`, as used for weights, activations and the KV cache."""
    return quantize(tensor, "asymmetric", bits, granularity, group, value_range).reconstruction


@dataclass(frozen=True)
class Case:
    """One quantization in the golden file; `input` names the tensor `input.<input>`, `name` prefixes the outputs."""

    name: str
    input: str
    scheme: Scheme
    bits: int
    granularity: Granularity
    group: int | None
    range: Range
    reconstruction: bool


VECTORS: dict[str, Tensor] = {
    "mixed": torch.tensor([[-1.0, -0.5, -0.1, 0.0, 0.2, 0.7, 1.3, 2.0]]),
    "rounding": torch.tensor([[0.0, 0.5, 1.5, 2.5, 15.0]]),
    "saturation": torch.tensor([[5.0, 5.25, 5.5, 6.0]]),
}


def check_known_answers() -> None:
    """Assert the hand-checked vectors: scales, zero points, codes and reconstructions, rounding and saturation."""
    table: list[tuple[Scheme, int, float, int, list[int], list[float]]] = [
        (
            "asymmetric",
            8,
            0.0117647,
            85,
            [0, 43, 77, 85, 102, 144, 195, 255],
            [-1, -0.494118, -0.094118, 0, 0.2, 0.694118, 1.294118, 2],
        ),
        ("asymmetric", 4, 0.2, 5, [0, 3, 5, 5, 6, 9, 11, 15], [-1, -0.4, 0, 0, 0.2, 0.8, 1.2, 2]),
        (
            "asymmetric",
            3,
            0.4285714,
            2,
            [0, 1, 2, 2, 2, 4, 5, 7],
            [-0.857143, -0.428571, 0, 0, 0, 0.857143, 1.285714, 2.142857],
        ),
        ("asymmetric", 2, 1.0, 1, [0, 1, 1, 1, 1, 2, 2, 3], [-1, 0, 0, 0, 0, 1, 1, 2]),
        (
            "symmetric",
            4,
            0.2857143,
            0,
            [-3, -2, 0, 0, 1, 2, 5, 7],
            [-0.857143, -0.571429, 0, 0, 0.285714, 0.571429, 1.428571, 2],
        ),
        (
            "nf4",
            4,
            2.0,
            0,
            [2, 4, 6, 7, 8, 11, 14, 15],
            [-1.050146, -0.568883, -0.1821, 0, 0.159161, 0.67583, 1.445914, 2],
        ),
    ]
    for scheme, bits, scale, zero, codes, reconstruction in table:
        got = quantize(VECTORS["mixed"], scheme, bits, "channel")
        assert got.codes.flatten().tolist() == codes, (scheme, bits, got.codes)
        assert got.zero.item() == zero, (scheme, bits, got.zero)
        torch.testing.assert_close(got.scale, torch.tensor([scale]), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(
            got.reconstruction.flatten(), torch.tensor(reconstruction, dtype=torch.float32), rtol=0, atol=1e-6
        )

    rounding = quantize(VECTORS["rounding"], "asymmetric", 4, "channel")
    assert rounding.codes.flatten().tolist() == [0, 0, 2, 2, 15], rounding.codes

    compat = quantize(VECTORS["saturation"], "asymmetric", 4, "channel", value_range="compat")
    torch.testing.assert_close(compat.reconstruction, torch.ones(1, 4))
    fixed = quantize(VECTORS["saturation"], "asymmetric", 4, "channel", value_range="fixed")
    assert (fixed.reconstruction - VECTORS["saturation"]).abs().max() <= fixed.scale.item() / 2


def random_matrices() -> dict[str, Tensor]:
    """The 8 x 128 inputs of the golden file."""
    shape = (8, 128)
    generator = torch.Generator().manual_seed(SEED)

    def normal() -> Tensor:
        return torch.randn(shape, generator=generator)

    constants = torch.tensor([[0.75], [-0.75], [3.0], [-1e-3], [1e-6], [-20.0], [1.0], [-0.1]])
    with_zeros = normal()
    with_zeros[0] = 0.0
    with_zeros[3] = 0.0
    with_zeros[5, :64] = 0.0
    return {
        "normal": normal(),
        "heavy": 0.05 * torch.sign(normal()) * normal().abs().pow(3),
        "positive": 0.5 + normal().abs(),
        "constant": constants.expand(shape).contiguous(),
        "zeros": with_zeros,
        "tiny": 1e-6 * normal(),
    }


def random_cases() -> list[Case]:
    """Every bit width for `normal`, a few for the others; NF4 for two of them."""
    granularities: list[tuple[Granularity, int | None]] = [
        ("tensor", None),
        ("channel", None),
        ("group", 32),
        ("group", 64),
    ]
    modes: list[tuple[Scheme, Range]] = [("asymmetric", "compat"), ("asymmetric", "fixed"), ("symmetric", "compat")]
    cases: list[Case] = []

    def add(source: str, scheme: Scheme, bits: int, granularity: Granularity, group: int | None, value: Range) -> None:
        unit = f"{granularity}{group or ''}"
        name = f"{source}.{scheme}-{value}.b{bits}.{unit}"
        keep = unit == "group64" and bits in (2, 4)
        cases.append(Case(name, source, scheme, bits, granularity, group, value, keep))

    for source in random_matrices():
        for bits in range(1, 9) if source == "normal" else (1, 2, 4, 8):
            for scheme, value in modes:
                if scheme == "symmetric" and bits < 2:
                    continue
                for granularity, group in granularities:
                    add(source, scheme, bits, granularity, group, value)
    for source in ("normal", "heavy"):
        add(source, "nf4", 4, "group", 64, "compat")
    return cases


def vector_cases() -> list[Case]:
    """The hand-checked vectors, as one-row matrices quantized per channel."""
    wanted: list[tuple[str, Scheme, int, Range]] = [
        *(("mixed", "asymmetric", bits, "compat") for bits in (8, 4, 3, 2)),
        ("mixed", "symmetric", 4, "compat"),
        ("mixed", "nf4", 4, "compat"),
        ("rounding", "asymmetric", 4, "compat"),
        ("saturation", "asymmetric", 4, "compat"),
        ("saturation", "asymmetric", 4, "fixed"),
    ]
    return [
        Case(f"{source}.{scheme}-{value}.b{bits}.channel", source, scheme, bits, "channel", None, value, True)
        for source, scheme, bits, value in wanted
    ]


def main() -> None:
    torch.set_num_threads(1)
    check_known_answers()
    inputs = {**VECTORS, **random_matrices()}
    cases = [*vector_cases(), *random_cases()]
    tensors = {f"input.{name}": tensor for name, tensor in inputs.items()}
    for case in cases:
        result = quantize(inputs[case.input], case.scheme, case.bits, case.granularity, case.group, case.range)
        assert result.reconstruction.isfinite().all(), case
        tensors[f"{case.name}.codes"] = result.codes
        tensors[f"{case.name}.scale"] = result.scale
        tensors[f"{case.name}.zero"] = result.zero
        if case.reconstruction:
            tensors[f"{case.name}.reconstruction"] = result.reconstruction
    GOLDEN.mkdir(parents=True, exist_ok=True)
    save_file(tensors, GOLDEN / "quantizers.safetensors")
    lines = ",\n".join(f"    {json.dumps(asdict(case))}" for case in cases)
    (GOLDEN / "quantizers.json").write_text(f'{{\n  "cases": [\n{lines}\n  ]\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
