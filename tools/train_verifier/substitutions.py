"""Makes hard pairs for training: one word of a closed class is replaced, or two are swapped."""

import random
import re
from collections.abc import Iterator, Sequence

from services.gateway.cache.labelled_pairs import LabelledPair
from tools.train_verifier.opposites import rephrase

# Words of a class exclude each other: a question about one is never a question about another.
CLASSES = [
    words.split()
    for words in """monday tuesday wednesday thursday friday saturday sunday
january february march april june july august september october november december
red blue green yellow black white purple orange pink brown grey
small medium large tiny huge
first second third fourth fifth last
left right
north south east west
before after
with without
since until
above below
morning afternoon evening night
seconds minutes hours days weeks months years
winter spring summer autumn
breakfast lunch dinner
mother father brother sister son daughter wife husband uncle aunt
boyfriend girlfriend
boys girls men women children adults
london paris berlin madrid rome tokyo delhi mumbai chennai bangalore dubai toronto sydney boston
india china pakistan japan germany france spain italy canada australia brazil russia england mexico
english french german spanish hindi chinese japanese arabic russian tamil
python java javascript ruby php perl scala rust kotlin swift
android iphone windows linux mac ubuntu
google apple microsoft amazon facebook twitter instagram whatsapp snapchat netflix youtube quora
physics chemistry biology mathematics history geography economics
engineering medicine law accounting architecture
doctor lawyer teacher nurse pilot engineer
dog cat horse cow rabbit parrot
knee elbow shoulder ankle wrist back neck
eyes ears nose teeth hair skin
headache fever cough nausea
iron zinc copper gold silver aluminium
dollar euro pound rupee yen
pdf word excel csv json xml
cricket football tennis basketball hockey
mars venus jupiter saturn mercury
highest lowest
best worst
increase decrease gain lose
buy sell rent
open close
start stop
import export
upload download
enable disable
male female
north-facing south-facing
vegetarian vegan
credit debit
public private
weight height
oldest youngest
cheapest fastest safest easiest""".splitlines()
]
_CLASS_OF = {word: words for words in CLASSES for word in words}
_WORD = re.compile(r"[A-Za-z-]+")
_NAMES = """Google Apple Microsoft Amazon Tesla Intel Samsung Sony Nokia Oracle IBM Disney Netflix
    Uber Anna Peter Maria John Priya Ahmed Chen Olga France Germany Brazil Japan India Canada Spain
    Italy""".split()
_ORDERED = (
    "Did {0} buy {1}?", "Why did {0} sue {1}?", "Is {0} bigger than {1}?", "Can {0} beat {1}?",
    "When did {0} invade {1}?", "Does {0} export more to {1}?", "Who says {0} copied {1}?",
    "How do I move my data from {0} to {1}?", "What does {0} think of {1}?",
    "Is it cheaper to fly from {0} to {1}?", "How many people moved from {0} to {1}?",
    "Should I leave {0} for {1}?", "Why does {0} owe money to {1}?", "Has {0} ever defeated {1}?",
)  # fmt: skip
_UNORDERED = (
    "What is the difference between {0} and {1}?", "How far is {0} from {1}?",
    "Are {0} and {1} friends?",
    "Do {0} and {1} share a border?", "How do {0} and {1} compare?",
    "What do {0} and {1} have in common?",
)  # fmt: skip
_POLITE = (
    "Please tell me: {}",
    "Can someone explain this? {}",
    "{} Thanks!",
    "Hi, {}",
    "I would like to know: {}",
)
_FROM_TO = re.compile(r"\bfrom (\w+) to (\w+)\b")


def pairs(texts: Sequence[str], seed: int, count: int) -> list[LabelledPair]:
    """Return pairs of each kind, made from texts and from frames.

    About half ask the same. Both kinds have the same texts, so that nothing but the difference
    tells them apart.

    Args:
        texts: real questions.
        seed: of the random choices.
        count: the most pairs with a replaced word; the other kinds have fewer.
    """
    rng = random.Random(seed)  # noqa: S311 - not a secret
    shuffled = rng.sample(list(texts), len(texts))
    found = _take((pair for text in shuffled for pair in _replaced(text, rng)), count)
    found += _take((pair for text in shuffled for pair in _reversed(text)), count // 4)
    found += _take(_framed(rng), count // 2)
    return found + [_rephrased(pair, rng) for pair in found if not pair.same]


def _rephrased(pair: LabelledPair, rng: random.Random) -> LabelledPair:
    """Return one question of a pair and another wording of it."""
    text = rng.choice([pair.one, pair.other])
    wordings = [text, text.lower().rstrip("?. "), rng.choice(_POLITE).format(text)]
    return LabelledPair(text, rng.choice([*wordings, rephrase(text, rng)]), True)


def _replaced(text: str, rng: random.Random) -> Iterator[LabelledPair]:
    places = [match for match in _WORD.finditer(text) if match[0].lower() in _CLASS_OF]
    if places:
        place = rng.choice(places)
        other = rng.choice(
            [word for word in _CLASS_OF[place[0].lower()] if word != place[0].lower()]
        )
        other = other.capitalize() if place[0][0].isupper() else other
        yield LabelledPair(text, text[: place.start()] + other + text[place.end() :], False)


def _reversed(text: str) -> Iterator[LabelledPair]:
    other = _FROM_TO.sub(r"from \2 to \1", text)
    if other != text:
        yield LabelledPair(text, other, False)


def _framed(rng: random.Random) -> Iterator[LabelledPair]:
    while True:
        one, other, third = rng.sample(_NAMES, 3)
        frame = rng.choice(_ORDERED)
        yield LabelledPair(frame.format(one, other), frame.format(other, one), False)
        yield LabelledPair(frame.format(one, other), frame.format(one, third), False)
        frame = rng.choice(_UNORDERED)
        yield LabelledPair(frame.format(one, other), frame.format(other, one), True)


def _take(found: Iterator[LabelledPair], count: int) -> list[LabelledPair]:
    return [pair for _, pair in zip(range(count), found, strict=False)]
