"""Golden blocks of ggml's number formats and their values, by ggml's own Python package.

Every type has blocks of random bytes, whose float16 scales are replaced by sane ones, and, where `gguf` can quantize to
the type, a quantization of normal weights. Blocks stand in blocks.bin, their float32 values in values.bin; index.json says
where. The package has no Q8_K, which is d * q with a float32 d.
"""

import json
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Punctuation, Sequence, Split
from transformers import GPT2Tokenizer, Qwen2Tokenizer

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "gguf"
SEED = 20240611
ELEMENTS = 1024
# Where the float16 scales of a block are.
SCALES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "IQ4_NL": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}
PASSED = ["F32", "F16", "BF16"]
QUANTIZABLE = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16"]


def random_blocks(rng: np.random.Generator, name: str) -> np.ndarray:
    elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (ELEMENTS // elements, size), dtype=np.uint8)
    for at in SCALES.get(name, []):
        scale = rng.normal(0, 0.02, len(blocks)).astype(np.float16)
        # A zero, a negative zero, the least subnormal and the greatest number there is.
        scale[:4] = np.array([0.0, -0.0, 6e-8, 65504.0], dtype=np.float16)[: len(scale)]
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(-1, 2)
    if name == "Q8_K":
        blocks[:, :4] = rng.normal(0, 0.02, len(blocks)).astype(np.float32).view(np.uint8).reshape(-1, 4)
    return blocks


def values(name: str, blocks: np.ndarray) -> np.ndarray:
    if name == "Q8_K":
        scale = blocks[:, :4].copy().view(np.float32)
        return (scale * blocks[:, 4:260].copy().view(np.int8).astype(np.float32)).reshape(-1)
    with np.errstate(all="ignore"):
        return dequantize(blocks.reshape(-1), GGMLQuantizationType[name]).reshape(-1)


TEXTS = [
    "Hello world",
    "I'LL say it's we'd, don't you'RE THEY'VE 'x '",
    "  two  spaces   and\ttabs \t mixed  \n\n  newlines\r\n end   ",
    "12345 7 1234567 3.14159 -42 1,000,000 a1b22c333",
    "x+=y<z>~^|`$5 #$%&* (a) [b] {c} \"q\" it--is... ?!",
    "caf\u00e9 na\u00efve \u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u0420\u0443\u0441\u0441\u043a\u0438\u0439 \u2126\u212a \u01c5",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u3053\u3093 \ud55c\uad6d\uc5b4 \u00bd \u0663\u0664\u0665 \u2164 \u00b2",
    "\U0001f600\U0001f680 emoji \U00010400\U00010428 \u201cquoted\u201d \u2018x\u2019 \u2014 \uff21\uff22\uff01",
    "\n",
    " ",
    "a\n\nb\n c\r\rd \n",
]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377"
    "\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u2126\u212a-\u212d"
    "\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
)


def cut(*patterns: str) -> PreTokenizer:
    return Sequence([*(Split(Regex(p), "isolated") for p in patterns), ByteLevel(add_prefix_space=False, use_regex=False)])


def rules() -> dict[str, PreTokenizer]:
    words = ByteLevel(add_prefix_space=False)
    gpt2 = GPT2Tokenizer().backend_tokenizer.pre_tokenizer
    digits = Sequence([Digits(individual_digits=True), words])
    falcon = Sequence([Punctuation("contiguous"), words, Split(Regex("[0-9][0-9][0-9]"), "isolated")])
    return {
        "gpt-2": gpt2,
        "olmo": gpt2,
        "starcoder": digits,
        "smollm": digits,
        "falcon": falcon,
        "qwen2": Qwen2Tokenizer().backend_tokenizer.pre_tokenizer,
        "llama-bpe": cut(LLAMA3),
        "bloom": cut(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"),
        "deepseek-llm": cut(
            r"[\r\n]",
            rf"\s?[{DEEPSEEK_LETTERS}]+",
            r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
            r"\s+$",
            r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
            r"\p{N}+",
        ),
    }


def write_words() -> None:
    found = {name: [[w for w, _ in rule.pre_tokenize_str(t)] for t in TEXTS] for name, rule in rules().items()}
    (GOLDEN / "words.json").write_text(json.dumps({"texts": TEXTS, "words": found}, ensure_ascii=False) + "\n")


def main() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    cases = [(name, random_blocks(rng, name)) for name in [*PASSED, *SCALES, "Q8_K"]]
    weights = rng.normal(0, 0.05, ELEMENTS).astype(np.float32)
    for name in QUANTIZABLE:
        cases.append((name, quantize(weights, GGMLQuantizationType[name]).view(np.uint8)))
    index, stored, floats = [], b"", b""
    for name, blocks in cases:
        blocks = np.ascontiguousarray(blocks.reshape(-1, GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]))
        found = values(name, blocks)
        assert found.dtype == np.float32
        index.append({"dtype": name, "offset": len(stored), "bytes": blocks.nbytes, "first": len(floats) // 4, "elements": found.size})
        stored += blocks.tobytes()
        floats += found.tobytes()
    (GOLDEN / "blocks.bin").write_bytes(stored)
    (GOLDEN / "values.bin").write_bytes(floats)
    (GOLDEN / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    write_words()


if __name__ == "__main__":
    main()
