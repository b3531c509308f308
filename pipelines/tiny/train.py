"""Trains the bundled checkpoint: a small Llama on public-domain prose and the generated curriculum.

    python train.py NODE_MODULES CHECKPOINT [--steps N]

Resumes from CHECKPOINT when it exists. Every step draws its batch from its own seed, so that an interrupted run sees
the same data as an uninterrupted one. The model is exported next to this file at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from corpus import BOS, EOS, FOLDER, prose_tokens, training_prose
from curriculum import at_step, training_samples

SEED = 20
LENGTH = 256
ROWS = 16
# Rows of prose by first step; the curriculum fills the others.
PROSE_ROWS = {0: 7, 800: 12}
TAUGHT_WEIGHT = 3.0
GIVEN_WEIGHT = 0.3
CONSTANT = 0.1
MATRIX_RATE = 0.02
VECTOR_RATE = 4e-3
WEIGHT_DECAY = 0.1
WARMUP_STEPS = 50
DECAY_FRACTION = 0.25
SAVE_EVERY = 100
LOG_EVERY = 25


def configuration(tokenizer: Tokenizer) -> LlamaConfig:
    """Shapes every quantization scheme of interest divides: 64 into each input width, 32 into each head."""
    return LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=192,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=tokenizer.token_to_id(EOS),
    )


@torch.no_grad()
def look_back(model: LlamaForCausalLM) -> None:
    """Starts three heads of the first layer as attention to the token one, two and three places back.

    A share of every embedding is one constant, from which keys get a fixed vector and queries the same vector turned
    by the wanted offset. Left to chance, such heads take most of a short training to appear.
    """
    config = model.config
    attention = model.model.layers[0].self_attn
    half = config.head_dim // 2
    frequencies = 10000.0 ** (-torch.arange(half) / half)
    strength = torch.zeros(half)
    strength[:5] = torch.tensor([8.0, 6.0, 4.0, 4.0, 4.0])
    embeddings = model.model.embed_tokens.weight
    embeddings[:, 0] = CONSTANT
    constant = CONSTANT / embeddings.square().mean(-1).sqrt().mean()
    attention.k_proj.weight[: config.head_dim, 0] = torch.cat([strength, torch.zeros(half)]) / constant
    for head in range(config.num_attention_heads // config.num_key_value_heads):
        angle = -(head + 1) * frequencies
        turned = torch.cat([strength * angle.cos(), strength * angle.sin()]) / constant
        attention.q_proj.weight[head * config.head_dim : (head + 1) * config.head_dim, 0] = turned


@dataclass(frozen=True)
class Batch:
    """Packed rows: B rows of LENGTH + 1 tokens, with `weights` on the loss of predicting each token."""

    tokens: torch.Tensor  # (B, T+1)
    weights: torch.Tensor  # (B, T+1)
    documents: torch.Tensor  # (B, T+1), number of the document within its row
    families: list[str]
    family_of: torch.Tensor  # (B, T+1), index into families where a token is taught, else -1


def curriculum_documents(
    tokenizer: Tokenizer, rng: random.Random, step: int
) -> Iterator[tuple[str, list[int], list[bool]]]:
    """Documents as tokens, each with whether it is taught; opened by BOS and closed by EOS."""
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    for family, sample in training_samples(rng, step):
        tokens, taught = [bos], [False]
        texts = [part.text for part in sample.segments]
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        for segment, encoding in zip(sample.segments, encodings, strict=True):
            tokens += encoding.ids
            taught += [segment.taught] * len(encoding.ids)
        yield family, [*tokens, eos], [*taught, False]


def draw_batch(tokenizer: Tokenizer, prose: np.ndarray, step: int) -> Batch:
    """Random windows of prose, then curriculum documents packed first-fit into the remaining rows."""
    rng = random.Random(f"{SEED}/{step}")
    bos = tokenizer.token_to_id(BOS)
    rows, width = ROWS, LENGTH + 1
    prose_rows = at_step(PROSE_ROWS, step)
    tokens = torch.full((rows, width), tokenizer.token_to_id(EOS))
    weights = torch.zeros(rows, width)
    documents = torch.zeros(rows, width, dtype=torch.long)
    family_of = torch.full((rows, width), -1)
    families: list[str] = []
    for row in range(prose_rows):
        start = rng.randrange(len(prose) - LENGTH)
        tokens[row, 0] = bos
        tokens[row, 1:] = torch.from_numpy(prose[start : start + LENGTH])
        weights[row] = 1.0

    used = [0] * rows
    misfits = 0
    for family, document, taught in curriculum_documents(tokenizer, rng, step):
        size = len(document)
        assert size <= width, f"a {family} document of {size} tokens does not fit a row"
        row = next((row for row in range(prose_rows, rows) if used[row] + size <= width), None)
        if row is None:
            misfits += 1
            if misfits == 8:
                break
            continue
        if family not in families:
            families.append(family)
        here = slice(used[row], used[row] + size)
        taught_mask = torch.tensor(taught)
        tokens[row, here] = torch.tensor(document)
        weights[row, here] = torch.where(taught_mask, TAUGHT_WEIGHT, GIVEN_WEIGHT)
        weights[row, used[row]] = 0.0
        documents[row, used[row] :] += 1
        family_of[row, here] = torch.where(taught_mask, families.index(family), -1)
        used[row] += size
    return Batch(tokens, weights, documents, families, family_of)


def attention_inputs(documents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask (B, 1, T, T) and positions (B, T) that keep the documents of a row apart."""
    length = documents.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    mask = (documents[:, :, None] == documents[:, None, :]) & causal
    positions = torch.arange(length)
    first = torch.where(
        F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True), positions, torch.zeros_like(positions)
    )
    return mask[:, None], positions - first.cummax(dim=1).values


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised by Newton-Schulz iterations (Jordan et al., 2024), for matrices."""

    def __init__(self, parameters: list[torch.nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalise(parameter.grad.lerp(buffer, group["momentum"]))
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * scale)


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Roughly UVᵀ of the matrix USVᵀ, by five quintic Newton-Schulz steps."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


def rate_factor(step: int, steps: int) -> float:
    """Warm-up, plateau, then a linear decay to zero."""
    decay_start = round(steps * (1 - DECAY_FRACTION))
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return min(1.0, (steps - step) / max(1, steps - decay_start))


def export(model: LlamaForCausalLM, config: LlamaConfig) -> None:
    """Float16 safetensors and a configuration in the common Hugging Face layout."""
    tensors = {
        name: parameter.detach().to(torch.float16).contiguous()
        for name, parameter in model.named_parameters()
        if name != "lm_head.weight"
    }
    save_file(tensors, FOLDER / "model.safetensors", metadata={"format": "pt"})
    layout = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "torch_dtype": "float16",
    }
    (FOLDER / "config.json").write_text(json.dumps(layout, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("node_modules", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=1400)
    arguments = parser.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    prose = np.array(prose_tokens(tokenizer, training_prose(arguments.node_modules)), dtype=np.int64)
    config = configuration(tokenizer)
    model = LlamaForCausalLM(config)
    look_back(model)
    parameters = dict(model.named_parameters())
    matrices = [p for name, p in parameters.items() if p.ndim == 2 and "layers" in name]
    rest = [p for name, p in parameters.items() if not (p.ndim == 2 and "layers" in name)]
    optimizers: list[tuple[torch.optim.Optimizer, float]] = [
        (Muon(matrices, lr=MATRIX_RATE, momentum=0.95, weight_decay=WEIGHT_DECAY), MATRIX_RATE),
        (torch.optim.AdamW(rest, lr=VECTOR_RATE, betas=(0.9, 0.95), weight_decay=0.0), VECTOR_RATE),
    ]
    first_step, seconds = 0, 0.0
    if arguments.checkpoint.exists():
        state = torch.load(arguments.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for (optimizer, _), saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first_step, seconds = state["step"], state["seconds"]
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(prose)} tokens of prose", flush=True)

    hits: dict[str, list[float]] = defaultdict(list)
    started = time.monotonic() - seconds
    for step in range(first_step, arguments.steps):
        for optimizer, rate in optimizers:
            optimizer.param_groups[0]["lr"] = rate * rate_factor(step, arguments.steps)
        batch = draw_batch(tokenizer, prose, step)
        mask, positions = attention_inputs(batch.documents[:, :-1])
        logits = model(input_ids=batch.tokens[:, :-1], attention_mask=mask, position_ids=positions).logits
        targets, weights = batch.tokens[:, 1:], batch.weights[:, 1:]
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(weights)
        (losses * weights).sum().div(weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
            optimizer.zero_grad()

        hits["prose loss"].append(losses[: at_step(PROSE_ROWS, step)].mean().item())
        correct = (logits.argmax(-1) == targets).float()
        for index, family in enumerate(batch.families):
            hits[family].append(correct[batch.family_of[:, 1:] == index].mean().item())
        if (step + 1) % LOG_EVERY == 0:
            means = "  ".join(f"{name} {np.mean(values):.3f}" for name, values in sorted(hits.items()))
            print(f"step {step + 1}  {time.monotonic() - started:.0f} s  {means}", flush=True)
            hits.clear()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == arguments.steps:
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer, _ in optimizers],
                    "step": step + 1,
                    "seconds": time.monotonic() - started,
                },
                arguments.checkpoint,
            )
    export(model, config)


if __name__ == "__main__":
    main()
