"""The perplexity to beat: an interpolated modified Kneser-Ney 5-gram over the same tokens and the same training prose.

    python baseline.py NODE_MODULES

After Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling (1998), section 3.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from corpus import BOS, FOLDER, prose_tokens, training_prose

ORDER = 5


@dataclass(frozen=True)
class Level:
    """All n-grams of one order: sorted codes with their (continuation) counts, and per context what they leave over."""

    grams: np.ndarray
    discounted: np.ndarray  # count less its discount, per n-gram
    contexts: np.ndarray
    totals: np.ndarray  # sum of counts, per context
    reserved: np.ndarray  # sum of discounts, per context


def codes(tokens: np.ndarray, order: int, vocabulary: int) -> np.ndarray:
    """The n-gram ending at each token from index order - 1 on, as one base-`vocabulary` number."""
    count = len(tokens) - order + 1
    code = np.zeros(count, dtype=np.int64)
    for offset in range(order):
        code = code * vocabulary + tokens[offset : offset + count]
    return code


def level(grams: np.ndarray, counts: np.ndarray, vocabulary: int) -> Level:
    """Discounts for counts of one, two, and three or more, from the counts of counts."""
    n1, n2, n3, n4 = (int((counts == value).sum()) for value in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    discounts = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    discount = discounts[np.minimum(counts, 3)]
    contexts, owner = np.unique(grams // vocabulary, return_inverse=True)
    return Level(
        grams,
        counts - discount,
        contexts,
        np.bincount(owner, weights=counts),
        np.bincount(owner, weights=discount),
    )


def train(tokens: np.ndarray, vocabulary: int, bos: int) -> list[Level]:
    """Levels of order 1 to ORDER. BOS may open an n-gram, never stand inside one; nothing precedes it, so an n-gram
    it opens keeps its plain count at every order."""
    observed = []
    for order in range(1, ORDER + 1):
        grams = codes(tokens, order, vocabulary)
        inside = np.zeros(len(grams), dtype=bool)
        for offset in range(1 if order > 1 else 0, order):
            inside |= tokens[offset : offset + len(grams)] == bos
        observed.append(np.unique(grams[~inside], return_counts=True))
    levels = []
    for order in range(1, ORDER):
        longer, _ = observed[order]
        grams, counts = np.unique(longer % vocabulary**order, return_counts=True)
        plain, plain_counts = observed[order - 1]
        opened = plain // vocabulary ** (order - 1) == bos
        grams, counts = np.concatenate([grams, plain[opened]]), np.concatenate([counts, plain_counts[opened]])
        sequence = np.argsort(grams)
        levels.append(level(grams[sequence], counts[sequence], vocabulary))
    return [*levels, level(*observed[-1], vocabulary)]


def look_up(table: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted code, zero where the table lacks it."""
    index = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return np.where(table[index] == wanted, values[index], 0.0)


def probabilities(levels: list[Level], tokens: np.ndarray, vocabulary: int) -> np.ndarray:
    """Of each token after the first ORDER - 1, given up to ORDER - 1 tokens before it."""
    probability = np.full(len(tokens) - ORDER + 1, 1 / vocabulary)
    for order, one in enumerate(levels, start=1):
        grams = codes(tokens, order, vocabulary)[ORDER - order :]
        context = grams // vocabulary
        total = look_up(one.contexts, one.totals, context)
        seen = total > 0
        found = look_up(one.grams, one.discounted, grams) + look_up(one.contexts, one.reserved, context) * probability
        probability = np.where(seen, found / np.where(seen, total, 1), probability)
    return probability


def main() -> None:
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    vocabulary, bos = tokenizer.get_vocab_size(), tokenizer.token_to_id(BOS)
    tokens = np.array(prose_tokens(tokenizer, training_prose(Path(sys.argv[1]))), dtype=np.int64)
    held_out = (FOLDER / "data" / "prose.txt").read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    levels = train(tokens, vocabulary, bos)
    logs = []
    for text in held_out:
        document = np.array([bos] * (ORDER - 1) + tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)
        logs.append(np.log(probabilities(levels, document, vocabulary)))
    everything = np.concatenate(logs)
    print(f"Kneser-Ney {ORDER}-gram: perplexity {np.exp(-everything.mean()):.2f} on {len(everything)} tokens")


if __name__ == "__main__":
    main()
