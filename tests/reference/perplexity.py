"""Perplexity of a Llama checkpoint under fake quantization, for comparison with a study that Assay ran.

    python perplexity.py <checkpoint directory> <text file> <out.json>

The text is encoded with the checkpoint's tokenizer.json without special tokens and cut into consecutive windows. Each
window is the beginning-of-sequence token followed by `length - 1` text tokens, every one of which is scored:

    perplexity = exp(sum of -log p(token | the window before it) / number of scored tokens)

Each setting is measured twice: in float32 throughout, and with the products and norms in float64, rounded to float32.
Where activations are quantized the two differ by more than rounding: a value between two codes falls to either side,
and every later code with it. Their distance is how far PyTorch is from itself.

The result holds the token ids, so that a difference in tokenization cannot be mistaken for one in quantization.
"""

import argparse
import hashlib
import json
import math
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from llama_forward import FakeQuantizedLlama, Precision, assert_matches_transformers
from quantizers import Range
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM
from transformers.utils import logging


def precisions(weight_group: int | None, kv_group: int | None) -> dict[str, Precision]:
    """The settings to measure by name: fp, then each bit-width setting at range compat and at range fixed."""
    bits: dict[str, Precision] = {f"W{width}": Precision(weight_bits=width) for width in (8, 4, 3, 2)}
    bits |= {f"W{w}A{a}": Precision(weight_bits=w, activation_bits=a) for w, a in ((8, 8), (4, 8), (4, 4))}
    bits |= {f"KV{width}": Precision(kv_bits=width) for width in (8, 4, 3, 2)}
    ranges: tuple[Range, Range] = ("compat", "fixed")
    return {"fp": Precision()} | {
        f"{name}/{value}": replace(
            precision,
            weight_group=weight_group if precision.weight_bits is not None else None,
            kv_group=kv_group if precision.kv_bits is not None else None,
            range=value,
        )
        for value in ranges
        for name, precision in bits.items()
    }


def windows_of(ids: list[int], bos: int, count: int, length: int) -> Tensor:
    """`count` windows [count, length], each the BOS token followed by the next `length - 1` ids of the text."""
    needed = count * (length - 1)
    if len(ids) < needed:
        raise ValueError(f"the text gives {len(ids)} tokens and {needed} are needed: raise --characters")
    text = torch.tensor(ids[:needed]).reshape(count, length - 1)
    return torch.cat((torch.full((count, 1), bos), text), dim=1)


def negative_log_likelihood(model: FakeQuantizedLlama, windows: Tensor) -> float:
    """Sum over windows and positions 1.. of -log p, with the log-softmax and the sum in float64."""
    total = 0.0
    for window in windows:
        log_probabilities = model.logits(window)[:-1].double().log_softmax(dim=-1)
        total -= log_probabilities.gather(1, window[1:, None]).sum().item()
    return total


def measure(model: LlamaForCausalLM, windows: Tensor, settings: dict[str, Precision]) -> dict[str, dict[str, Any]]:
    """The result of each setting, with the linears that do not split into its weight groups."""
    results: dict[str, dict[str, Any]] = {}
    scored = windows[:, 1:].numel()
    for name, precision in settings.items():
        quantized = FakeQuantizedLlama(model, precision)
        nll_sum = negative_log_likelihood(quantized, windows)
        exact = negative_log_likelihood(FakeQuantizedLlama(model, precision, exact=True), windows)
        results[name] = {
            "precision": asdict(precision),
            "weights_left_in_float": quantized.indivisible,
            "nll_sum": nll_sum,
            "tokens": scored,
            "perplexity": math.exp(nll_sum / scored),
            "perplexity_exact_products": math.exp(exact / scored),
        }
        change = math.expm1((exact - nll_sum) / scored)
        print(f"{name:<14} {results[name]['perplexity']:12.4f}  with exact products {change:+.1e}")
    return results


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Perplexity of a Llama checkpoint under fake quantization.")
    parser.add_argument("checkpoint", type=Path, help="directory in the Hugging Face layout")
    parser.add_argument("text", type=Path, help="UTF-8 text file")
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--windows", type=int, default=8, help="number of windows (default: 8)")
    parser.add_argument("--length", type=int, default=256, help="tokens per window, BOS included (default: 256)")
    parser.add_argument("--start", type=int, default=0, help="first code point of the text to encode (default: 0)")
    parser.add_argument("--characters", type=int, default=32768, help="code points to encode (default: 32768)")
    parser.add_argument("--weight-group", type=int, default=64, help="0: one group per output (default: 64)")
    parser.add_argument("--kv-group", type=int, default=0, help="0: one group per token and head (default: 0)")
    return parser.parse_args()


def main() -> None:
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    arguments = parse_arguments()
    model = LlamaForCausalLM.from_pretrained(
        arguments.checkpoint, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokenizer = Tokenizer.from_file(str(arguments.checkpoint / "tokenizer.json"))

    # Decoding bytes, unlike read_text, leaves line endings as they are.
    text = arguments.text.read_bytes().decode("utf-8")[arguments.start :][: arguments.characters]
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    windows = windows_of(ids, model.config.bos_token_id, arguments.windows, arguments.length)
    assert_matches_transformers(model, windows[0])

    settings = precisions(arguments.weight_group or None, arguments.kv_group or None)
    result = {
        "text": {
            "file": arguments.text.name,
            "start": arguments.start,
            "characters": len(text),
            "sha256": hashlib.sha256(text.encode("utf-8")).hexdigest(),
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "settings": measure(model, windows, settings),
        "tokens_sha256": hashlib.sha256(windows.numpy().astype("<i4").tobytes()).hexdigest(),
        "tokens": windows.tolist(),
    }
    compact = json.dumps(result.pop("tokens"), separators=(",", ":")).replace("],[", "],\n    [")
    head = json.dumps(result, indent=2).removesuffix("\n}")
    arguments.out.write_text(f'{head},\n  "tokens": {compact}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
