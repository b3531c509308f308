"""Ids and decoded texts of 10,000 generated lines by Python's tokenizers, for tests/data/.

    python tokenizers_golden.py <folder of tokenizers>

writes tests/golden/tokenizers/<name>.json for every folder of checkpoints' tokenizer files known below. No special
token is added; text that spells one becomes it. Of every 100 lines one digest is kept of the ids and one of the decoded
texts, and of some lines the ids themselves, to see what differs.

    ids     of, for each line, the number of its ids and the ids, as int32
    texts   of the decoded lines, each ended by a zero byte, in UTF-8

Two more need no folder: unigram.model, a small SentencePiece model trained here on words of the mix, with rules of its
own for characters, and parts.json, what normalizers and pre-tokenizers make of some of the lines.
"""

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from shutil import copy
from types import SimpleNamespace

import numpy as np
import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers_mix import BLOCK, GOLDEN, Mix
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import SpmConverter, generate_merges

Encode = Callable[[str], list[int]]
Decode = Callable[[list[int]], str]
LLAMA_DECODER = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
)


def of_json(folder: Path) -> tuple[Encode, Decode]:
    """tokenizer.json, as Hugging Face tokenizers reads it."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return (
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
    )


def of_merges(folder: Path) -> tuple[Encode, Decode]:
    """vocab.json and merges.txt alone, as Transformers converts them."""
    with tempfile.TemporaryDirectory() as alone:
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            copy(folder / name, alone)
        tokenizer = AutoTokenizer.from_pretrained(alone)
    return (
        lambda text: tokenizer.encode(text, add_special_tokens=False),
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
    )


def of_sentencepiece(folder: Path, special: tuple[str, ...]) -> tuple[sentencepiece.SentencePieceProcessor, Encode]:
    """The SentencePiece model, special tokens cut out first: LlamaTokenizer of Transformers 4 with `legacy`."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    pattern = re.compile("(" + "|".join(map(re.escape, special)) + ")")

    def encode(text: str) -> list[int]:
        ids: list[int] = []
        for part in pattern.split(text):
            if part:
                ids += [model.piece_to_id(part)] if part in special else model.encode(part)
        return ids

    return model, encode


def of_llama(folder: Path) -> tuple[Encode, Decode]:
    """Decoded as the converted tokenizer does (LlamaConverter)."""
    model, encode = of_sentencepiece(folder, ("<unk>", "<s>", "</s>"))
    return encode, lambda ids: LLAMA_DECODER.decode([model.id_to_piece(i) for i in ids])


def of_chatglm(folder: Path) -> tuple[Encode, Decode]:
    """The published SPTokenizer: the word "sop" and the like are no commands in a text."""
    model, encode = of_sentencepiece(folder, ("<unk>", "</s>"))
    return encode, model.decode


def of_modern_llama(folder: Path) -> tuple[Encode, Decode]:
    """tokenizer.model with `legacy: false`, as LlamaConverter of Transformers 4 converts it.

    Transformers 5.23 ranks the merges by id instead of by score, and so encodes runs of spaces otherwise than
    SentencePiece and than every version before.
    """
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    pieces = [model.id_to_piece(i) for i in range(len(model))]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = generate_merges(vocab, {piece: model.get_score(i) for piece, i in vocab.items()})
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in pieces[:3]])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = LLAMA_DECODER
    return (
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
    )


def of_unigram(_: Path) -> tuple[Encode, Decode]:
    """Trains unigram.model and converts it (SpmConverter)."""
    rules = {"\u212b": "\u00c5", "\ufb01": "fi", "e\u0301": "\u00e9", "\u3000": " ", "\u00a0": " ", "\u0007": ""}
    rules |= {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {"\u2026": "...", "\u30ac": "\u30ab\u3099"}
    with tempfile.TemporaryDirectory() as folder:
        hexes = [" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) for a, b in rules.items()]
        (Path(folder) / "rules.tsv").write_text("\n".join(hexes) + "\n")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(line for i, line in enumerate(Mix().lines()) if i % 13 in (0, 1)),
            model_prefix=str(Path(folder) / "unigram"),
            model_type="unigram",
            vocab_size=300,
            normalization_rule_tsv=str(Path(folder) / "rules.tsv"),
            user_defined_symbols=["[INST]"],
            num_threads=1,
            minloglevel=2,
        )
        copy(Path(folder) / "unigram.model", GOLDEN / "unigram.model")
    slow = SimpleNamespace(vocab_file=str(GOLDEN / "unigram.model"), add_prefix_space=True, legacy=True)
    tokenizer = SpmConverter(slow).converted()
    tokenizer.add_special_tokens(["<unk>"])
    return (
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
    )


TOKENIZERS: dict[str, tuple[str, Callable[[Path], tuple[Encode, Decode]]]] = {
    "falcon": ("falcon", of_json),
    "gpt-neox-mamba": ("gpt-neox-mamba", of_json),
    "llama2": ("llama2", of_json),
    "mistral": ("mistral", of_json),
    "opt": ("opt", of_json),
    "opt.merges": ("opt", of_merges),
    "llama2.model": ("llama2", of_llama),
    "mistral.model": ("mistral", of_llama),
    "chatglm2.model": ("chatglm2", of_chatglm),
    "llama2.modern": ("llama2", of_modern_llama),
    "unigram": ("", of_unigram),
}

REGEXES = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"[\p{P}\p{S}]+|\p{M}",
    r"\w+|\W",
]


def split(pattern: dict, behavior: str = "Isolated", invert: bool = False) -> dict:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def metaspace(scheme: str, cut: bool) -> dict:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}


BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
PRE_TOKENIZERS: list[dict] = [
    *[split({"Regex": regex}) for regex in REGEXES],
    *[split({"Regex": r"\s"}, behavior, invert) for behavior in BEHAVIORS for invert in (False, True)],
    *[split({"String": " "}, behavior) for behavior in BEHAVIORS],
    *[{"type": "Punctuation", "behavior": behavior} for behavior in BEHAVIORS],
    *[{"type": "Digits", "individual_digits": individual} for individual in (False, True)],
    *[{"type": "ByteLevel", "add_prefix_space": p, "trim_offsets": True, "use_regex": r} for p in (False, True) for r in (False, True)],
    *[metaspace(scheme, cut) for scheme in ("always", "first", "never") for cut in (False, True)],
    {"type": "WhitespaceSplit"},
    {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace("first", True)]},
]  # fmt: skip
NORMALIZERS: list[dict] = [
    *[{"type": form} for form in ("NFC", "NFD", "NFKC", "NFKD")],
    {"type": "Lowercase"},
    *[{"type": "Strip", "strip_left": left, "strip_right": right} for left, right in ((True, False), (False, True), (True, True))],
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": "a"}, "content": "$&$1"},
    {"type": "Replace", "pattern": {"Regex": r"\s{2,}|\p{Lu}"}, "content": "\\1"},
]  # fmt: skip
PARTS_OF = 2_600


def write_parts(lines: list[str]) -> None:
    """Of each line the pieces, each ended by a zero byte, then one more."""
    empty = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
    empty |= {"pre_tokenizer": None, "post_processor": None, "decoder": None}
    empty["model"] = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    parts = []
    for key, configs in (("normalizer", NORMALIZERS), ("pre_tokenizer", PRE_TOKENIZERS)):
        for config in configs:
            part = getattr(Tokenizer.from_str(json.dumps(empty | {key: config})), key)
            made = [
                [part.normalize_str(line)] if key == "normalizer" else [piece for piece, _ in part.pre_tokenize_str(line)]
                for line in lines[:PARTS_OF]
            ]
            bytes_of = ["".join(piece + "\0" for piece in own).encode() + b"\0" for own in made]
            digests = [digest(bytes_of[i : i + 13 * 20]) for i in range(0, PARTS_OF, 13 * 20)]
            parts.append({"key": key, "config": config, "digests": digests})
    write("parts.json", parts)


def digest(parts: list[bytes]) -> str:
    """SHA-256, its first 16 hexadecimal digits."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def write(name: str, value: object) -> None:
    (GOLDEN / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main(root: Path) -> None:
    lines = Mix().lines()
    blocks = range(0, len(lines), BLOCK)
    write("lines.json", [digest([line.encode() + b"\0" for line in lines[i : i + BLOCK]]) for i in blocks])
    write_parts(lines)
    for name, (folder, make) in TOKENIZERS.items():
        encode, decode = make(root / folder)
        ids = [encode(line) for line in lines]
        bytes_of_ids = [np.array([len(own), *own], dtype="<i4").tobytes() for own in ids]
        texts = [decode(own).encode() + b"\0" if own else b"\0" for own in ids]
        golden = {
            "ids": [digest(bytes_of_ids[i : i + BLOCK]) for i in blocks],
            "texts": [digest(texts[i : i + BLOCK]) for i in blocks],
            "samples": {index: ids[index][:40] for index in range(7, len(lines), 199)},
        }
        (GOLDEN / f"{name}.json").write_text(json.dumps(golden) + "\n", encoding="utf-8")
        print(name, sum(map(len, ids)), "ids")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
