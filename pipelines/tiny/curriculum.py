"""The generated half of the training text: seeded little worlds, one generator per evaluation task and two drills.

Each generator draws one `Sample`: the document a model is trained on and the evaluation item the same draw would make.
A sample is held out when the hash of its context says so, hence training and evaluation can never share a context
whatever their seeds are.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

NAMES = "Tom Anna Ben Mary Jack Lucy Sam Rose Will Kate Dan Emma Joe Nell Max Ruth".split()
OBJECTS = "lamp bell cup rope book drum coin doll ring map flute kite pen brush clock hat".split()
PLACES = "barn mill yard hall shop tower garden market kitchen forest harbour school".split()
FRUITS = "pears plums figs nuts apples grapes lemons berries".split()
COLOURS = "red blue green black white brown grey pink".split()
CONTAINERS = "box bag jar chest drawer basket barrel case crate tin pot sack".split()
GOODS = "salt sugar flour rice tea wool silk sand clay coal gold iron wax ink oil soap".split()
NUMBERS = "two three four five six seven eight nine".split()
VERBS = "bought sold found lost ate picked washed kept".split()
ACTIVITIES = "sing run dance read sleep shout play cook".split()

# What one does about a need; two ways each, so that no ending is a mere echo of one phrase.
REMEDIES: dict[str, tuple[str, str]] = {
    "hungry": ("ate a loaf of bread", "made a hot soup"),
    "thirsty": ("drank a cup of milk", "went to the well for water"),
    "cold": ("put on a warm coat", "lit a fire"),
    "tired": ("went to bed", "lay down to rest"),
    "dirty": ("washed both hands", "took a bath"),
    "lost": ("asked for the way", "looked at the map"),
    "late": ("ran all the way", "began to hurry"),
    "sick": ("called the doctor", "took the medicine"),
    "sad": ("cried a little", "wanted a kind word"),
    "happy": ("laughed out loud", "sang a merry song"),
}

KIND_ACTS = (
    "gave a {o} to {q}", "mended the {o} of {q}", "thanked {q} for the {o}", "found the lost {o} of {q}",
    "shared the {o} with {q}", "helped {q} to carry the {o}", "praised {q} for the {o}", "made a {o} for {q}",
)
UNKIND_ACTS = (
    "stole a {o} from {q}", "broke the {o} of {q}", "mocked {q} for the {o}", "hid the {o} of {q}",
    "threw the {o} at {q}", "blamed {q} for the {o}", "kept the {o} from {q}", "lied to {q} about the {o}",
)

# Of each ability: some animals that have it, some that lack it.
ABILITIES: dict[str, tuple[str, str]] = {
    "fly": ("hawk crow owl wren goose bat bee moth", "frog seal whale crab cow goat dog cat snake sheep"),
    "swim": ("goose duck frog seal whale shark otter crab", "bee moth hawk wren crow ant owl hen"),
    "lay eggs": (
        "hawk crow owl wren goose duck frog bee moth crab hen ant",
        "seal whale otter cow goat dog cat horse sheep",
    ),
    "give milk": (
        "bat seal whale otter cow goat dog cat sheep",
        "hawk crow frog duck bee moth crab snake shark hen ant",
    ),
    "climb trees": ("cat snake ant", "whale shark seal cow horse sheep duck"),
    "sing": ("crow wren owl whale", "crab snake shark ant moth otter"),
    "pull a cart": ("horse dog goat cow", "hen cat bee frog crab whale snake wren"),
    "see at night": ("owl bat cat moth", "hen hawk duck wren bee"),
}

FEW_WORDS = OBJECTS + PLACES + COLOURS + CONTAINERS + NAMES
ALL_WORDS = sorted({*FEW_WORDS, *GOODS, *FRUITS, *NUMBERS, *VERBS, *ACTIVITIES, *REMEDIES, "yes", "no"})


@dataclass(frozen=True)
class Segment:
    """A piece of a document; `taught` marks the words that answer something, which weigh more in the loss."""

    text: str
    taught: bool


@dataclass(frozen=True)
class Sample:
    """One draw: `key` decides on which side of the hold-out it falls, `item` is what an evaluation file stores."""

    key: str
    segments: tuple[Segment, ...]
    item: dict[str, object]


@dataclass(frozen=True)
class Sizes:
    """How much a context may hold: lists to draw from, and how often some things change hands."""

    cloze_people: tuple[int, ...]
    cloze_changes: tuple[int, ...]
    cloze_rounds: int
    dialogue_people: tuple[int, ...]
    key_lines: tuple[int, ...]


TRAINED = Sizes(
    cloze_people=(2, 3, 4, 5),
    cloze_changes=(0, 0, 1, 2),
    cloze_rounds=1,
    dialogue_people=(2, 3, 4),
    key_lines=(2, 4, 8, 16, 20),
)
# More changes and more lines than in training, so that they cost something in full precision too.
EVALUATED = Sizes(
    cloze_people=(3, 4),
    cloze_changes=(2,),
    cloze_rounds=2,
    dialogue_people=(2, 3, 4),
    key_lines=(2, 4, 8, 16, 32),
)

Stage = TypeVar("Stage")
Generator = Callable[[random.Random, Sizes], Sample]


def is_held_out(key: str) -> bool:
    """One context in ten belongs to evaluation only."""
    return hashlib.blake2b(key.encode(), digest_size=8).digest()[0] % 10 == 0


def document(*parts: str) -> tuple[Segment, ...]:
    """Alternating given and taught text, starting with given text."""
    return tuple(Segment(text, index % 2 == 1) for index, text in enumerate(parts))


def cloze(rng: random.Random, sizes: Sizes) -> Sample:
    """Who took a thing last, and who sat in a place."""
    count = rng.choice(sizes.cloze_people)
    people, things, places = rng.sample(NAMES, count), rng.sample(OBJECTS, count), rng.sample(PLACES, count)
    owner = dict(zip(things, people, strict=True))
    sentences = [f"The {thing} {person} took." for thing, person in owner.items()]
    for _ in range(sizes.cloze_rounds):
        for thing in rng.sample(things, rng.choice(sizes.cloze_changes)):
            owner[thing] = rng.choice([person for person in people if person != owner[thing]])
            sentences.append(f"Then the {thing} {owner[thing]} took.")
    rng.shuffle(people)
    sitter = dict(zip(places, people, strict=True))
    sentences += [f"In the {place} {person} sat." for place, person in sitter.items()]
    context = " ".join(sentences)

    questions = [(f" So the {thing}", person, "took", "thing") for thing, person in owner.items()]
    questions += [(f" So in the {place}", person, "sat", "place") for place, person in sitter.items()]
    rng.shuffle(questions)
    parts = [context]
    for stem, person, verb, _ in questions[:6]:
        parts[-1] += stem
        parts += [f" {person}", f" {verb}."]
    stem, word, _, kind = questions[0]
    return Sample(context, document(*parts), {"context": context + stem, "word": word, "kind": kind})


def story(rng: random.Random, _: Sizes) -> Sample:
    """Three people with three needs; the right ending is a remedy for the need of the one the ending is about."""
    people, needs = rng.sample(NAMES, 3), rng.sample(sorted(REMEDIES), 4)
    index = rng.randrange(3)
    first, second, third = (f"{person} {need}" for person, need in zip(people, needs, strict=False))
    place = rng.choice(PLACES)
    context = rng.choice((
        f"In the {place} sat {first}, {second} and {third}. Then {people[index]}",
        f"One day {first} met {second} and {third} in the {place}. Soon {people[index]}",
    ))
    endings = [f" {rng.choice(REMEDIES[need])}." for need in needs]
    right = endings[index]
    rng.shuffle(endings)
    return Sample(
        context, document(context, right), {"story": context, "endings": endings, "label": endings.index(right)}
    )


def sums(rng: random.Random, _: Sizes) -> Sample:
    """Three or four one-digit addends, added from left to right."""
    addends = [rng.randint(0, 9) for _ in range(rng.choice((3, 4, 4)))]
    question = " + ".join(map(str, addends))
    total, steps = addends[0], ""
    for addend in addends[1:]:
        steps += f" {total} + {addend} = {total + addend}."
        total += addend
    return Sample(
        question,
        document(f"Q: {question} = ?\nA:", f"{steps} So {total}\n"),
        {"question": question, "answer": str(total)},
    )


def judge(rng: random.Random, _: Sizes) -> Sample:
    """A verdict on a claim about animals, on an act between people, or on a wish under stated rules."""
    first, second = rng.sample(NAMES, 2)
    topic = rng.choice(("fact", "act", "rule"))
    verdict = rng.random() < 0.5
    if topic == "fact":
        ability = rng.choice(sorted(ABILITIES))
        able, unable = ABILITIES[ability]
        animal = rng.choice((able if verdict else unable).split())
        text = f"{first} says that the {animal} can {ability}. Is {first} right? Answer:"
    elif topic == "act":
        act = rng.choice(KIND_ACTS if verdict else UNKIND_ACTS).format(o=rng.choice(OBJECTS), q=second)
        text = f"{first} {act}. Was it kind? Answer:"
    else:
        place = rng.choice(PLACES)
        allowed = {activity: rng.random() < 0.5 for activity in rng.sample(ACTIVITIES, rng.choice((3, 4, 5, 6)))}
        rules = ", ".join(f"{activity} {'yes' if allowed[activity] else 'no'}" for activity in allowed)
        wish, verdict = rng.choice(list(allowed.items()))
        text = f"In the {place} the rules are: {rules}. For {first} then: {wish}"
    return Sample(
        text,
        document(text, " yes" if verdict else " no"),
        {"text": text, "label": 0 if verdict else 1, "topic": topic},
    )


def dialogue(rng: random.Random, sizes: Sizes) -> Sample:
    """Who did what to how many fruits, in two turns: the second cannot be answered without the first."""
    count = rng.choice(sizes.dialogue_people)
    people, verbs, fruits = rng.sample(NAMES, count), rng.sample(VERBS, count), rng.sample(FRUITS, count)
    amounts = [rng.randrange(len(NUMBERS) - 1) for _ in people]

    def fact(index: int, extra: int) -> str:
        return f"{people[index]} {verbs[index]} {NUMBERS[amounts[index] + extra]} {fruits[index]}."

    facts = " ".join(fact(index, 0) for index in range(count))
    one, other = rng.sample(range(count), 2)
    kind = rng.choice(("person", "person", "verb", "more"))
    question = {
        "person": f"And what of {people[other]}?",
        "verb": f"And who {verbs[other]} some?",
        "more": f"And with one more for {people[other]}?",
    }[kind]
    first, second = fact(one, 0), fact(other, 1 if kind == "more" else 0)
    opening = f"{facts} What of {people[one]}?"
    return Sample(
        facts,
        document(f"User: {opening}\nBot:", f" {first}\n", f"User: {question}\nBot:", f" {second}\n"),
        {"question": opening, "answer": first, "question2": question, "answer2": second, "kind": kind},
    )


def keys(rng: random.Random, sizes: Sizes) -> Sample:
    """Lines that put two goods into a coloured container, then the question for one of them."""
    lines = rng.choice(sizes.key_lines)
    pairs = rng.sample([(colour, box) for colour in COLOURS for box in CONTAINERS], lines)
    entries = [(f"{colour} {box}", " ".join(rng.sample(GOODS, 2))) for colour, box in pairs]
    context = "\n".join(f"In the {name} {goods}." for name, goods in entries)
    asked = rng.sample(entries, min(lines, 6))
    parts = [context + "\n"]
    for name, goods in asked:
        parts[-1] += f"Now in the {name}"
        parts += [f" {goods}", ".\n"]
    name, goods = asked[0]
    return Sample(
        context,
        document(*parts),
        {"lines": lines, "context": context, "question": f"Now in the {name}", "answer": goods},
    )


def word_pairs(words: list[str], rng: random.Random) -> Sample:
    """Pairs of words, then the second word of each, out of order. It has no task of its own: it teaches looking back
    by content, on which every retrieval builds."""
    chosen = rng.sample(words, 2 * rng.randint(2, 10))
    couples = list(zip(chosen[0::2], chosen[1::2], strict=True))
    context = ", ".join(" ".join(couple) for couple in couples)
    rng.shuffle(couples)
    parts = [f"Say {context}. Again"]
    for first, second in couples:
        parts[-1] += f" {first}"
        parts += [f" {second}", ","]
    return Sample(context, document(*parts[:-1], "."), {})


def few_pairs(rng: random.Random, _: Sizes) -> Sample:
    """Pairs from the words of people, things and places."""
    return word_pairs(FEW_WORDS, rng)


def all_pairs(rng: random.Random, _: Sizes) -> Sample:
    """Pairs from every word that a task asks for: copying is learned word by word."""
    return word_pairs(ALL_WORDS, rng)


GENERATORS: dict[str, Generator] = {
    "few pairs": few_pairs,
    "all pairs": all_pairs,
    "cloze": cloze,
    "story": story,
    "sums": sums,
    "judge": judge,
    "dialogue": dialogue,
    "keys": keys,
}

# Relative number of documents, chosen so that the hard skills get most of the tokens.
TASK_WEIGHTS: dict[str, float] = {
    "cloze": 0.20, "story": 0.14, "sums": 0.16, "judge": 0.18, "dialogue": 0.14, "keys": 0.14,
}
# The drill by first step: at first most documents are drills, since nothing that needs looking back comes before it.
DRILLS: dict[int, dict[str, float]] = {
    0: {"few pairs": 1.0},
    300: {"all pairs": 0.6},
    700: {"all pairs": 0.1},
}


def at_step(stages: dict[int, Stage], step: int) -> Stage:
    """The stage a step belongs to, stages being keyed by their first step."""
    return stages[max(first for first in stages if first <= step)]


def draw(family: str, rng: random.Random, held_out: bool) -> Sample:
    """The next sample of a family on the wanted side of the hold-out."""
    while True:
        sample = GENERATORS[family](rng, EVALUATED if held_out else TRAINED)
        if is_held_out(sample.key) == held_out:
            return sample


def training_samples(rng: random.Random, step: int) -> Iterator[tuple[str, Sample]]:
    """An endless stream of the training documents of a step, all families mixed."""
    mixture = at_step(DRILLS, step) | TASK_WEIGHTS
    families, weights = list(mixture), list(mixture.values())
    while True:
        family = rng.choices(families, weights)[0]
        yield family, draw(family, rng, held_out=False)
