"""The 10,000 lines on which tokenizers are compared: generated, so that they need not be kept.

tests/data/textMix.ts generates the same lines from the same word lists and ranges (tests/golden/tokenizers/mix.json).
"""

import json
from collections.abc import Callable
from pathlib import Path

GOLDEN = Path(__file__).parent.parent / "golden" / "tokenizers"
LINES = 10_000
BLOCK = 100


class Mix:
    def __init__(self) -> None:
        self.data = json.loads((GOLDEN / "mix.json").read_text(encoding="utf-8"))
        self.state = 1
        # A line's kind is its index modulo their number.
        self.kinds: list[Callable[[], str]] = [
            self.prose, self.code, self.chinese, self.script, self.emoji, self.control, self.special, self.space,
            self.number, self.combining, self.anything, self.mixed, self.long,
        ]  # fmt: skip

    def below(self, n: int) -> int:
        """A whole number in [0, n), n < 2^20: the high bits of a linear congruential generator."""
        self.state = (self.state * 1664525 + 1013904223) & 0xFFFFFFFF
        return (self.state * n) >> 32

    def pick(self, values: list) -> str:
        return values[self.below(len(values))]

    def scalar(self, ranges: list[str]) -> str:
        """One character of one of the ranges, all ranges alike; surrogates become U+FFFD."""
        first, _, last = self.pick(ranges).partition("-")
        low = int(first, 16)
        span = int(last or first, 16) - low + 1
        code = low + (self.below(span) if span < 1 << 20 else self.below(1 << 16) * 17 + self.below(17))
        return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)

    def repeat(self, low: int, high: int, make: Callable[[], str]) -> str:
        return "".join([make() for _ in range(low + self.below(high - low + 1))])

    def word(self) -> str:
        word = self.pick(self.data["words"])
        style = self.below(12)
        return word.upper() if style == 0 else word[:1].upper() + word[1:] if style == 1 else word

    def prose(self) -> str:
        def next_word() -> str:
            text = self.word()
            mark = self.pick(self.data["marks"]) if self.below(6) == 0 else ""
            return text + mark + (" " if self.below(15) > 0 else "  ")

        return self.repeat(1, 14, next_word)

    def code(self) -> str:
        text = self.pick(self.data["code"])
        while "{w}" in text:
            text = text.replace("{w}", self.word(), 1)
        while "{n}" in text:
            text = text.replace("{n}", str(self.below(1 << self.below(18))), 1)
        return text

    def chinese(self) -> str:
        def piece() -> str:
            which = self.below(10)
            if which == 0:
                return self.pick(self.data["hanMarks"])
            if which == 1:
                return self.word()
            return self.repeat(1, 4, lambda: self.scalar(self.data["kana" if which == 2 else "han"]))

        return self.repeat(1, 12, piece)

    def script(self) -> str:
        ranges = self.pick(self.data["scripts"])
        return self.repeat(1, 8, lambda: self.repeat(1, 6, lambda: self.scalar(ranges)) + self.pick([" ", " ", ", ", ""]))

    def emoji(self) -> str:
        def piece() -> str:
            return self.scalar(self.data["emoji"]) + self.pick(self.data["joins"])

        return self.repeat(1, 10, lambda: self.word() + " " if self.below(6) == 0 else piece())

    def control(self) -> str:
        return self.repeat(
            1, 14, lambda: self.word() if self.below(3) == 0 else self.scalar(self.data["controls"])
        )

    def special(self) -> str:
        def piece() -> str:
            token = self.pick(self.data["special"]) if self.below(5) > 1 else self.word()
            return token + self.pick(["", "", " ", "  ", "\n"])

        return self.repeat(1, 7, piece)

    def space(self) -> str:
        return self.repeat(
            1, 12, lambda: self.pick(self.data["spaces"]) if self.below(5) > 1 else self.pick([self.word(), "1", ".", "("])
        )

    def number(self) -> str:
        def piece() -> str:
            which = self.below(6)
            if which == 0:
                return self.pick(self.data["signs"])
            if which == 1:
                return str(self.below(1 << 19))
            return self.scalar(self.data["digits"])

        return self.repeat(1, 16, piece)

    def combining(self) -> str:
        def piece() -> str:
            return self.scalar(self.data["bases"]) + self.repeat(0, 3, lambda: self.scalar(self.data["combining"]))

        return self.repeat(1, 10, lambda: " " if self.below(8) == 0 else piece())

    def anything(self) -> str:
        return self.repeat(1, 20, lambda: self.scalar(self.data["odd" if self.below(8) == 0 else "any"]))

    def mixed(self) -> str:
        return self.repeat(2, 4, lambda: self.kinds[self.below(11)]())

    def long(self) -> str:
        """Now and then hundreds of characters without a break, else a short repetition."""
        unit = self.pick([self.word(), self.scalar(self.data["han"]), " ", "=", "ab", "\n", "▁", "😀", "0", "é"])
        times = 1 + self.below(600 if self.below(8) == 0 else 30)
        return unit * times + self.word()

    def lines(self) -> list[str]:
        return [self.kinds[index % len(self.kinds)]() for index in range(LINES)]
