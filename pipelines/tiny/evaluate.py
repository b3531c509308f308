"""Scores the exported checkpoint on its seven tasks, in full precision and under simulated quantization.

    python evaluate.py [SETTING ...]

Quantization is asymmetric round-to-nearest over a range that includes zero: weights of the decoder's linear layers in
groups of 64 along the input, their inputs per token, keys (after rotation) and values per token and head. Embeddings,
norms and the output head stay as they are.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import AttentionInterface, DynamicCache, LlamaForCausalLM, logging
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from corpus import BOS, FOLDER

GROUP = 64
WINDOW = 256
BATCH = 100
Item = dict[str, object]


@dataclass(frozen=True)
class Setting:
    """Bits of weights, activations and cached keys and values; None leaves them in full precision."""

    weights: int | None = None
    activations: int | None = None
    cache: int | None = None


SETTINGS: dict[str, Setting] = {
    "FP": Setting(),
    "W8": Setting(weights=8),
    "W4": Setting(weights=4),
    "W3": Setting(weights=3),
    "W2": Setting(weights=2),
    "W8A8": Setting(weights=8, activations=8),
    "W4A8": Setting(weights=4, activations=8),
    "W4A4": Setting(weights=4, activations=4),
    "KV8": Setting(cache=8),
    "KV4": Setting(cache=4),
    "KV3": Setting(cache=3),
    "KV2": Setting(cache=2),
}


def fake_quantize(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Each row of the last dimension is one group with its own scale and zero point."""
    levels = 2**bits - 1
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = (high - low).clamp(min=1e-5) / levels
    zero = (-(low / scale).round()).clamp(0, levels)
    return (((x / scale).round() + zero).clamp(0, levels) - zero) * scale


def load(setting: Setting) -> LlamaForCausalLM:
    """The checkpoint in float32 with the quantizers of a setting put in place."""
    model = LlamaForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    for module in model.model.layers.modules():
        if isinstance(module, torch.nn.Linear):
            if setting.weights is not None:
                rows = module.weight.data.unflatten(-1, (-1, GROUP))
                module.weight.data = fake_quantize(rows, setting.weights).flatten(-2)
            if setting.activations is not None:
                module.register_forward_pre_hook(
                    lambda _, inputs, bits=setting.activations: (fake_quantize(inputs[0], bits),)
                )
    if setting.cache is not None:
        bits = setting.cache

        def attention(module, query, key, value, attention_mask, **options):  # type: ignore[no-untyped-def]
            return sdpa_attention_forward(
                module, query, fake_quantize(key, bits), fake_quantize(value, bits), attention_mask, **options
            )

        AttentionInterface.register("quantized_cache", attention)
        AttentionMaskInterface.register("quantized_cache", sdpa_mask)
        model.config._attn_implementation = "quantized_cache"
    return model


@dataclass(frozen=True)
class Runner:
    """A model with its tokenizer: perplexity, continuation scores and greedy continuations."""

    model: LlamaForCausalLM
    tokenizer: Tokenizer

    @property
    def bos(self) -> int:
        return self.tokenizer.token_to_id(BOS)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def perplexity(self, documents: list[str]) -> float:
        """Windows of WINDOW tokens, each after BOS, none overlapping another."""
        loss, count = 0.0, 0
        for document in documents:
            tokens = self.ids(document)
            for start in range(0, len(tokens), WINDOW):
                window = torch.tensor([[self.bos, *tokens[start : start + WINDOW]]])
                logits = self.model(input_ids=window[:, :-1], use_cache=False).logits
                loss += F.cross_entropy(logits[0], window[0, 1:], reduction="sum").item()
                count += window.shape[1] - 1
        return float(torch.tensor(loss / count).exp())

    def continuation(self, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
        """Per (prompt, continuation): mean log-probability of the continuation, and whether it is the greedy one."""
        results = []
        for start in range(0, len(pairs), BATCH):
            chunk = [
                ([self.bos, *self.ids(prompt)], self.ids(target)) for prompt, target in pairs[start : start + BATCH]
            ]
            width = max(len(prompt) + len(target) for prompt, target in chunk)
            rows = torch.tensor([p + t + [self.bos] * (width - len(p) - len(t)) for p, t in chunk])
            logs = self.model(input_ids=rows, use_cache=False).logits.log_softmax(-1)
            for row, (prompt, target) in enumerate(chunk):
                here = logs[row, len(prompt) - 1 : len(prompt) + len(target) - 1]
                wanted = torch.tensor(target)
                mean = here.gather(-1, wanted[:, None]).mean().item()
                results.append((mean, bool((here.argmax(-1) == wanted).all())))
        return results

    def greedy(self, contexts: list[list[int]], stop: list[str], limit: int) -> list[tuple[list[int], str]]:
        """Per context: the tokens and the text generated before the first stop string."""
        results: list[tuple[list[int], str]] = []
        for start in range(0, len(contexts), BATCH):
            chunk = contexts[start : start + BATCH]
            width = max(map(len, chunk))
            rows = torch.tensor([[self.bos] * (width - len(context)) + context for context in chunk])
            mask = torch.tensor([[0] * (width - len(context)) + [1] * len(context) for context in chunk])
            cache = DynamicCache()
            outputs: list[list[int]] = [[] for _ in chunk]
            finished = [False] * len(chunk)
            step = rows
            for _ in range(limit):
                positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -step.shape[1] :]
                logits = self.model(
                    input_ids=step, attention_mask=mask, position_ids=positions, past_key_values=cache
                ).logits
                step = logits[:, -1].argmax(-1, keepdim=True)
                mask = F.pad(mask, (0, 1), value=1)
                for row, output in enumerate(outputs):
                    if not finished[row]:
                        if any(mark in self.tokenizer.decode([step[row].item()]) for mark in stop):
                            finished[row] = True
                        else:
                            output.append(int(step[row]))
                if all(finished):
                    break
            results += [(output, self.tokenizer.decode(output)) for output in outputs]
        return results


def items(name: str) -> list[Item]:
    return [json.loads(line) for line in (FOLDER / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def percent(hits: list[bool]) -> float:
    return 100 * sum(hits) / len(hits)


Scores = dict[str, float]


def with_groups(name: str, hits: list[bool], groups: list[object]) -> Scores:
    """The overall score and one per group."""
    by_group: dict[object, list[bool]] = defaultdict(list)
    for hit, group in zip(hits, groups, strict=True):
        by_group[group].append(hit)
    return {name: percent(hits)} | {f"{name}/{group}": percent(some) for group, some in sorted(by_group.items())}


def prose(run: Runner) -> Scores:
    text = (FOLDER / "data" / "prose.txt").read_text(encoding="utf-8")
    return {"prose": run.perplexity(text.rstrip("\n").split("\n\n"))}


def cloze(run: Runner) -> Scores:
    rows = items("cloze")
    hits = [hit for _, hit in run.continuation([(row["context"], f" {row['word']}") for row in rows])]
    return with_groups("cloze", hits, [row["kind"] for row in rows])


def choose(run: Runner, prompts: list[str], choices: list[list[str]]) -> list[int]:
    """Index of the choice with the highest mean log-probability, per prompt."""
    scores = iter(run.continuation([(p, choice) for p, some in zip(prompts, choices, strict=True) for choice in some]))
    chosen = []
    for some in choices:
        means = [next(scores)[0] for _ in some]
        chosen.append(means.index(max(means)))
    return chosen


def story(run: Runner) -> Scores:
    rows = items("story")
    chosen = choose(run, [row["story"] for row in rows], [row["endings"] for row in rows])
    return {"story": percent([row["label"] == index for row, index in zip(rows, chosen, strict=True)])}


def judge(run: Runner) -> Scores:
    rows = items("judge")
    chosen = choose(run, [row["text"] for row in rows], [[" yes", " no"]] * len(rows))
    hits = [row["label"] == index for row, index in zip(rows, chosen, strict=True)]
    return with_groups("judge", hits, [row["topic"] for row in rows])


def sums(run: Runner) -> Scores:
    rows = items("sums")
    outputs = run.greedy([[run.bos, *run.ids(f"Q: {row['question']} = ?\nA:")] for row in rows], ["\n"], 64)
    found = [re.findall(r"So (\d+)", text) for _, text in outputs]
    return {"sums": percent([some[-1:] == [row["answer"]] for row, some in zip(rows, found, strict=True)])}


def dialogue(run: Runner) -> Scores:
    rows = items("dialogue")
    contexts = [[run.bos, *run.ids(f"User: {row['question']}\nBot:")] for row in rows]
    first = run.greedy(contexts, ["\n"], 16)
    contexts = [
        [*context, *tokens, *run.ids(f"\nUser: {row['question2']}\nBot:")]
        for context, (tokens, _), row in zip(contexts, first, rows, strict=True)
    ]
    second = run.greedy(contexts, ["\n"], 16)
    return {
        "dialogue/1": percent([text.strip() == row["answer"] for row, (_, text) in zip(rows, first, strict=True)]),
        "dialogue/2": percent([text.strip() == row["answer2"] for row, (_, text) in zip(rows, second, strict=True)]),
    }


def keys(run: Runner) -> Scores:
    rows = items("keys")
    outputs = run.greedy([[run.bos, *run.ids(f"{row['context']}\n{row['question']}")] for row in rows], [".", "\n"], 6)
    hits = [text.strip() == row["answer"] for row, (_, text) in zip(rows, outputs, strict=True)]
    return with_groups("keys", hits, [row["lines"] for row in rows])


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(2)
    logging.disable_progress_bar()
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    header_printed = False
    for name in sys.argv[1:] or SETTINGS:
        started = time.monotonic()
        run = Runner(load(SETTINGS[name]), tokenizer)
        scores: Scores = {}
        for task in (prose, cloze, story, sums, judge, dialogue, keys):
            scores |= task(run)
        if not header_printed:
            print("| setting | " + " | ".join(scores) + " |")
            print("|---" * (len(scores) + 1) + "|")
            header_printed = True
        cells = [f"{score:.2f}" if key == "prose" else f"{score:.1f}" for key, score in scores.items()]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
