"""Tiny random checkpoints of any family, one per variant, with the outputs Transformers computes for them.

`write` makes `tests/golden/families/<family>/<variant>/`: a checkpoint in the Hugging Face layout (config.json and
safetensors weights) plus `golden.safetensors`, computed in float32 with eager attention from the weights as stored:

    tokens     int32 [2, T]
    logits     float32 [2, T, vocabulary]
    hidden.i   float32 [2, T, hidden], the output of block i counted from 1, before the final norm
    greedy     int32 [1, P + 16], the first P tokens of row 0 and their greedy continuation

Greedy tokens are computed with a cache and again without one; the two must agree, unless a variant says that what is
cached at one length is wrong at another.
"""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Module
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

GOLDEN = Path(__file__).parents[2] / "golden"
CONTINUATION = 16
MINIMUM_MARGIN = 1e-3
"""Least gap between the two best logits on a greedy path, so that rounding cannot change the choice."""


@dataclass(frozen=True)
class Variant:
    """A checkpoint; its config.json is the family's overridden by `config`, without the keys in `omits`."""

    name: str
    seed: int
    config: dict[str, Any] = field(default_factory=dict)
    omits: tuple[str, ...] = ()
    tokens: int = 48
    prompt: int = 24
    dtype: torch.dtype = torch.float32
    shards: int = 1
    cached_greedy: bool = True
    stored: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    """Makes the tensors of the one file what an untidy checkpoint has: other names, buffers, a tied head."""


@dataclass(frozen=True)
class Family:
    """How to build a model of the family and where its blocks are."""

    name: str
    config: dict[str, Any]
    config_class: type[PreTrainedConfig]
    model_class: type[PreTrainedModel]
    blocks: Callable[[PreTrainedModel], Sequence[Module]]
    fill: Callable[[str, Tensor, Tensor], Tensor]
    """The value of a parameter, from its name, itself as constructed, and standard normal noise of its shape."""
    attention: str = "eager"


def config_of(family: Family, variant: Variant) -> dict[str, Any]:
    """The contents of the variant's config.json, in the spelling it is meant to test."""
    config = {**family.config, **variant.config}
    return deepcopy({key: value for key, value in config.items() if key not in variant.omits})


def random_model(family: Family, variant: Variant) -> PreTrainedModel:
    """A model whose gains, biases and weights let attention and logits vary."""
    model = family.model_class(family.config_class(**config_of(family, variant)))
    generator = torch.Generator().manual_seed(variant.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(family.fill(name, parameter, noise))
    return model.to(variant.dtype)


def write_checkpoint(family: Family, variant: Variant, directory: Path) -> None:
    """Write config.json and the weights, in as many shards as asked for."""
    model = random_model(family, variant)
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    limit = size * 2 if variant.shards == 1 else math.ceil(0.55 * size)
    model.save_pretrained(directory, max_shard_size=limit)
    (directory / "generation_config.json").unlink(missing_ok=True)
    config = json.dumps(config_of(family, variant), indent=2)
    (directory / "config.json").write_text(config + "\n", encoding="utf-8")
    files = sorted(directory.glob("*.safetensors"))
    assert len(files) == variant.shards, files


def alter_stored(variant: Variant, directory: Path) -> None:
    """Rewrite the one weight file as the variant wants it found."""
    file = directory / "model.safetensors"
    with safe_open(file, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name).clone() for name in stored.keys()}
    save_file(variant.stored(tensors), file, metadata={"format": "pt"})


def load(family: Family, directory: Path) -> PreTrainedModel:
    """Load a checkpoint in float32. Some rotary embeddings keep state between calls, so callers load afresh."""
    model = family.model_class.from_pretrained(directory, dtype=torch.float32, attn_implementation=family.attention)
    return model.eval()


def assert_loads_as_written(family: Family, variant: Variant, loaded: PreTrainedModel) -> None:
    """Assert that the stored checkpoint holds the generated model, rounded to its storage type."""
    expected = random_model(family, variant).float()
    for (name, left), (_, right) in zip(expected.named_parameters(), loaded.named_parameters(), strict=True):
        assert torch.equal(left, right), name


@torch.no_grad()
def forward(family: Family, model: PreTrainedModel, tokens: Tensor) -> dict[str, Tensor]:
    """Logits and the output of each block before the final norm."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: Module, _inputs: Any, output: Any) -> None:
            outputs[name] = (output[0] if isinstance(output, tuple) else output).clone()

        return hook

    hooks = [
        block.register_forward_hook(keep(f"hidden.{index + 1}")) for index, block in enumerate(family.blocks(model))
    ]
    outputs["logits"] = model(tokens, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return outputs


def choose(logits: Tensor) -> Tensor:
    """The best token of the last position, whose lead must be clear."""
    best = logits[0, -1].topk(2)
    assert best.values[0] - best.values[1] > MINIMUM_MARGIN, best
    return best.indices[:1].unsqueeze(0)


@torch.no_grad()
def greedy_without_cache(model: PreTrainedModel, prompt: Tensor) -> Tensor:
    """Continue `prompt`, running the whole sequence at every step."""
    sequence = prompt
    for _ in range(CONTINUATION):
        sequence = torch.cat((sequence, choose(model(sequence, use_cache=False).logits)), dim=1)
    return sequence


@torch.no_grad()
def greedy_with_cache(model: PreTrainedModel, prompt: Tensor) -> Tensor:
    """Continue `prompt`, running it once and then one token at a time over the cache."""
    return model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=CONTINUATION,
        min_new_tokens=CONTINUATION,
        do_sample=False,
        use_cache=True,
        pad_token_id=0,
        eos_token_id=None,
    )


def golden(family: Family, variant: Variant, directory: Path) -> dict[str, Tensor]:
    """The tensors of golden.safetensors, computed from the checkpoint as stored."""
    model = load(family, directory)
    assert_loads_as_written(family, variant, model)
    generator = torch.Generator().manual_seed(1000 + variant.seed)
    tokens = torch.randint(0, model.config.vocab_size, (2, variant.tokens), generator=generator)
    outputs = forward(family, model, tokens)

    prompt = tokens[:1, : variant.prompt]
    greedy = greedy_without_cache(load(family, directory), prompt)
    if variant.cached_greedy:
        assert torch.equal(greedy, greedy_with_cache(load(family, directory), prompt)), variant.name

    assert all(tensor.isfinite().all() for tensor in outputs.values())
    assert outputs["logits"].std(dim=-1).min() > 0.3, "degenerate logits"
    assert len(set(greedy[0, variant.prompt :].tolist())) > 3, "degenerate continuation"
    return {"tokens": tokens.int(), "greedy": greedy.int(), **outputs}


def write(family: Family, variants: Sequence[Variant]) -> None:
    """Write all variants of a family anew."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    for variant in variants:
        directory = GOLDEN / "families" / family.name / variant.name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        write_checkpoint(family, variant, directory)
        outputs = golden(family, variant, directory)
        if variant.stored is not None:
            alter_stored(variant, directory)
        save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, directory / "golden.safetensors")
        sizes = sum(file.stat().st_size for file in directory.iterdir())
        print(f"{family.name}/{variant.name}: {sizes // 1024} KiB", flush=True)
