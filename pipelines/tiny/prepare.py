"""Writes what training and evaluation share: the tokenizer, the held-out prose and the held-out items.

    python prepare.py NODE_MODULES
"""

from __future__ import annotations

import json
import random
import sys
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from corpus import BOS, EOS, FOLDER, held_out_prose, training_prose
from curriculum import EVALUATED, Sample, draw, training_samples

VOCABULARY = 1280
TOKENIZER_SAMPLES = 12_000
TOKENIZER_SEED = 1
TOKENIZER_STEP = 200
CHECKED_SAMPLES = 50_000
EVALUATION_SEED = 2
FAMILIES = ("cloze", "story", "sums", "judge", "dialogue", "keys")
ITEMS = 200
MAX_POSITIONS = 512


def train_tokenizer(prose: list[str]) -> Tokenizer:
    """Byte-level BPE over prose and curriculum, every digit a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    generated = [
        "".join(segment.text for segment in sample.segments)
        for _, sample in islice(training_samples(random.Random(TOKENIZER_SEED), TOKENIZER_STEP), TOKENIZER_SAMPLES)
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(prose + generated, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def evaluation_items(family: str, trained: set[str]) -> list[dict[str, object]]:
    """Distinct held-out items, none of a trained context; those of `keys` are spread evenly over the lengths."""
    rng = random.Random(f"{EVALUATION_SEED}/{family}")
    lengths = EVALUATED.key_lines if family == "keys" else (None,)
    wanted = {length: ITEMS // len(lengths) for length in lengths}
    seen: set[str] = set()
    items: list[dict[str, object]] = []
    while len(items) < ITEMS:
        sample: Sample = draw(family, rng, held_out=True)
        stratum = sample.item.get("lines")
        if sample.key not in seen and wanted[stratum] > 0:
            assert sample.key not in trained, f"a held-out context also occurs in training: {sample.key}"
            seen.add(sample.key)
            wanted[stratum] -= 1
            items.append(sample.item)
    return sorted(items, key=lambda item: item.get("lines", 0))


def main() -> None:
    node_modules = Path(sys.argv[1])
    data = FOLDER / "data"
    data.mkdir(exist_ok=True)
    prose = training_prose(node_modules)

    held_out = held_out_prose(node_modules)
    trained_lines = {line for text in prose for line in text.split("\n") if len(line) > 60}
    repeated = [line for text in held_out for line in text.split("\n") if line in trained_lines]
    assert not repeated, f"held-out prose also occurs in training: {repeated[:3]}"
    (data / "prose.txt").write_text("\n\n".join(held_out) + "\n", encoding="utf-8")

    training = training_samples(random.Random(TOKENIZER_SEED), TOKENIZER_STEP)
    trained = {sample.key for _, sample in islice(training, CHECKED_SAMPLES)}
    for family in FAMILIES:
        items = evaluation_items(family, trained)
        lines = [json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in items]
        (data / f"{family}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    tokenizer = train_tokenizer(prose)
    tokenizer.save(str(FOLDER / "tokenizer.json"))
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_POSITIONS,
    }
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")
    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(prose, add_special_tokens=False))
    held = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(held_out, add_special_tokens=False))
    print(f"prose: {tokens} training tokens, {held} held-out tokens; vocabulary {tokenizer.get_vocab_size()}")


if __name__ == "__main__":
    main()
