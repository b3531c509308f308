"""Speed of a family's blocks in PyTorch, for tests/bench/slow/pytorch.ts.

Reads one JSON object from standard input: `model_type`, its `config`, the number of `weights` that the blocks must hold,
`batch` and `length` of the tokens, `threads`, `rounds`. Writes one to standard output: `tokens_per_second` of the fastest
pass through embedding and blocks (float32, random weights, no cache), and the `versions` that ran. The first pass, which
touches fresh memory, does not count.
"""

import json
import sys
import time
from typing import Any

import torch
import transformers
from torch.nn import Module, ModuleList
from transformers import AutoConfig, AutoModel, PreTrainedConfig


def config_of(model_type: str, written: dict[str, Any]) -> PreTrainedConfig:
    """The family's config, of what it does not derive itself (Falcon's `head_dim`)."""
    derived = type(AutoConfig.for_model(model_type))
    given = {key: value for key, value in written.items() if not isinstance(getattr(derived, key, None), property)}
    return AutoConfig.for_model(model_type, **given)


def blocks(model: Module, layers: int) -> ModuleList:
    """The list of the model's blocks."""
    return next(module for module in model.modules() if isinstance(module, ModuleList) and len(module) == layers)


@torch.inference_mode()
def fastest(model: Module, tokens: torch.Tensor, rounds: int) -> float:
    """Seconds of the fastest of so many passes."""
    best = float("inf")
    for i in range(rounds + 1):
        since = time.perf_counter()
        model(input_ids=tokens, use_cache=False)
        if i > 0:
            best = min(best, time.perf_counter() - since)
    return best


def main() -> None:
    asked = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    torch.manual_seed(1)
    config = config_of(asked["model_type"], asked["config"])
    model = AutoModel.from_config(config, dtype=torch.float32).eval()
    held = sum(parameter.numel() for parameter in blocks(model, config.num_hidden_layers).parameters())
    if held != asked["weights"]:
        sys.exit(f"the blocks of {asked['model_type']} hold {held} weights here, not {asked['weights']}")
    tokens = torch.randint(config.vocab_size, (asked["batch"], asked["length"]))
    seconds = fastest(model, tokens, asked["rounds"])
    versions = f"PyTorch {torch.__version__}, Transformers {transformers.__version__}"
    json.dump({"tokens_per_second": tokens.numel() / seconds, "versions": versions}, sys.stdout)


main()
