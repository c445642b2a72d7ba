"""Signs on the words of two questions that they ask the same, or do not; no model needed.

``contradiction`` names what most likely makes them differ. ``compare`` counts everything else that
tells: overlap, order, question words, names, units, identifiers. All are symmetric.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_IDENTIFIER = re.compile(r"--?[a-z][\w-]*|\w+_\w+|\b[a-z]+[A-Z]\w*|\b[A-Za-z]+\d\w*|[\w-]+\.\w{2,}")
_NEGATIONS = frozenset(
    """no not never none nobody nothing neither nor without cannot cant wont dont doesnt didnt isnt
    arent wasnt werent havent hasnt hadnt wouldnt shouldnt couldnt mustnt aint""".split()
)
_NUMERALS = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()
    )
}
_ASKING = tuple("what why how when where who which whose can should is do".split())
_AUXILIARIES = {
    word: kind
    for kind, words in {
        "is": "is are was were am isnt arent",
        "do": "do does did dont doesnt didnt",
        "can": "can could cant couldnt",
        "should": "should would will shall must may might",
        "who": "who whom",
    }.items()
    for word in words.split()
}
_UNITS = frozenset(
    """km kilometers kilometres miles mile m meters metres feet foot inches inch cm mm kg kilograms
    g grams lb lbs pounds ounces oz liters litres l gallons c celsius f fahrenheit kelvin seconds
    minutes hours days weeks months years usd dollars eur euros inr rupees gbp yen percent mb gb tb
    kb hz mhz ghz watts volts amps""".split()
)
STOP = frozenset(
    """a an the is are was were be been being am do does did done have has had having of in on at to
    for from by with about as into than then that this these those it its i you he she we they me my
    your his her our their them us him and or if but so what why how when where who whom which whose
    can could should would will shall must may might there here some any s t re ve ll d m""".split()
) - {"on", "from", "to", "by"}
OPPOSITES = {
    frozenset(pair.split())
    for pair in """on off|enable disable|open close|start stop|begin end|first last|before after
    |first second|second third|first third|second last
    |up down|increase decrease|raise lower|high low|more less|most least|best worst|good bad
    |buy sell|import export|add remove|install uninstall|login logout|lock unlock|true false
    |win lose|allow deny|accept reject|hot cold|old new|male female|man woman|men women|boy girl
    |input output|maximum minimum|max min|cheap expensive|gain lose|advantage disadvantage
    |advantages disadvantages|pros cons|inside outside|legal illegal|possible impossible
    |positive negative|left right|north south|east west|day night|send receive|lend borrow
    |push pull|show hide|deposit withdraw|upload download|activate deactivate|boys girls|full empty
    |husband wife|girlfriend boyfriend|mother father|male female|love hate|happy sad|rich poor
    |strong weak|fast slow|long short|big small|large small|easy difficult|easy hard|black white
    |front back|top bottom|higher lower|better worse|hire fire|grow shrink|widen narrow|alive dead
    |connect disconnect|subscribe unsubscribe|follow unfollow|block unblock|like dislike|above below
    |over under|early late|earlier later|public private|win loss|profit loss|debit credit|dry wet
    |introvert extrovert|introverts extroverts|entry exit|enter leave|arrive depart|pass fail
    |freeze unfreeze|mute unmute|pin unpin|zip unzip|encrypt decrypt|encode decode|attach detach
    |expand collapse|approve decline|approve reject|join leave|inner outer|internal external
    |major minor|thick thin|heavy light|light dark|young old|inhale exhale|create delete
    |create destroy|build destroy|mount unmount|load unload|sync async|odd even|vertical horizontal
    |gain lose|gaining losing|summer winter|sunrise sunset|teach learn|question answer
    |employer employee|supply demand|asset liability|assets liabilities|permanent temporary
    |voluntary involuntary|safe dangerous|safe unsafe|healthy unhealthy|natural artificial
    |liberal conservative|liberals conservatives|left-wing right-wing|theist atheist|north south
    |optimist pessimist|prove disprove|agree disagree|appear disappear|obey disobey|trust distrust
    |include exclude|including excluding|inclusive exclusive|ascending descending|forward backward
    |forwards backwards|clockwise anticlockwise|import export|importing exporting|buying selling
    |opening closing|turning stopping|always never|everybody nobody|everyone nobody|all none
    |sitting standing|asleep awake|indoors outdoors|indoor outdoor|remember forget|save spend
    |minimize maximize|minimise maximise|upgrade downgrade|succeed fail|success failure""".split(
        "|"
    )
}


@dataclass(frozen=True)
class Text:
    """A question in its words; a text is read once, however often it is compared."""

    raw: str

    @cached_property
    def words(self) -> list[str]:
        """Its words in order, lower case, without apostrophes."""
        return [re.sub("['’]", "", word) for word in _WORD.findall(self.raw.lower())]

    @cached_property
    def content(self) -> list[str]:
        """The stems of the words that carry meaning, in order."""
        return [stem(word) for word in self.words if word not in STOP]

    def says_as(self, other: "Text") -> bool:
        """Say whether both have the same words that carry meaning, in whatever order."""
        return set(self.content) == set(other.content)

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Its numbers, as digits; numerals count, "one" is a pronoun as often."""
        digits = {number.replace(",", "") for number in _NUMBER.findall(self.raw)}
        return frozenset(
            digits | {_NUMERALS[word] for word in {*self.words} & _NUMERALS.keys() - {"one"}}
        )

    @cached_property
    def negated(self) -> bool:
        """Whether a word says no."""
        return self.negations > 0

    @cached_property
    def negations(self) -> int:
        """How many words say no."""
        return sum(word in _NEGATIONS for word in self.words)

    @cached_property
    def redis_errors(self) -> str:
        """Its first question word or auxiliary verb."""
        kinds = (_AUXILIARIES.get(word, word) for word in self.words)
        return next((word for word in kinds if word in _ASKING), "")

    @cached_property
    def names(self) -> frozenset[str]:
        """Words with a capital that do not begin the text: most often names."""
        return frozenset(
            stem(word.lower())
            for word in _WORD.findall(self.raw)[1:]
            if word[0].isupper() and word.lower() not in STOP
        )

    @cached_property
    def units(self) -> frozenset[str]:
        """Units of measure."""
        return _UNITS.intersection(self.words)

    @cached_property
    def identifiers(self) -> frozenset[str]:
        """Names as programs have them: flags, snake_case, camelCase, files, model numbers."""
        return frozenset(_IDENTIFIER.findall(self.raw))

    @cached_property
    def trigrams(self) -> frozenset[str]:
        """Runs of three characters of its words."""
        text = f" {' '.join(self.words)} "
        return frozenset(text[place : place + 3] for place in range(len(text) - 2))

    @cached_property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Neighbouring words that carry meaning."""
        return frozenset(zip(self.content, self.content[1:], strict=False))


def stem(word: str) -> str:
    """Cut what English adds to a word, roughly: enough to see that two are forms of one."""
    for ending in ("ingly", "edly", "ing", "ies", "ed", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 2:  # noqa: PLR2004 - keep a root
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] in "ey" else word  # noqa: PLR2004


def contradiction(one: Text, other: Text) -> str:
    """Return ``number``, ``negation`` or ``opposite`` if two texts differ in that, else ""."""
    if one.numbers != other.numbers:
        return "number"
    if one.negations != other.negations:
        return "negation"
    return "opposite" if _opposed(one, other) else ""


def _opposed(one: Text, other: Text) -> bool:
    words, others = frozenset(one.words), frozenset(other.words)
    return any(frozenset((a, b)) in OPPOSITES for a in words - others for b in others - words)


def compare(one: Text, other: Text, weight: Callable[[str], float]) -> list[float]:
    """Return the signs as numbers, in the order of SIGNS; ``weight`` is how rare a stem is."""
    renumbered, negated = one.numbers != other.numbers, one.negated != other.negated
    return [
        float(renumbered),
        float(negated),
        float(not renumbered and not negated and _opposed(one, other)),
        float(one.redis_errors != other.redis_errors),
        *_both(len(one.names - other.names), len(other.names - one.names)),
        _share(one.names, other.names),
        float(one.units != other.units),
        float(one.identifiers != other.identifiers),
        *_overlap(one, other, weight),
        _share(one.trigrams, other.trigrams),
        _share(one.pairs, other.pairs),
        *_order(one, other),
        *_both(len(one.words), len(other.words)),
    ]


SIGNS = tuple(
    """number negation opposite redis_errors names_less names_more names_share unit identifier
    overlap missing_less missing_more rarest_less rarest_more contained trigrams pairs
    ends_alike begins_alike runs swapped words_less words_more""".split()
)


def _overlap(one: Text, other: Text, weight: Callable[[str], float]) -> list[float]:
    left, right = Counter(one.content), Counter(other.content)
    shared = sum(weight(word) for word in left & right)
    only = [[weight(word) for word in side] for side in (left - right, right - left)]
    less, more = sorted(sum(side) for side in only)
    return [
        shared / (shared + less + more) if shared + less + more else 1.0,
        less,
        more,
        *_both(*(max(side, default=0.0) for side in only)),
        shared / (shared + less) if shared + less else 1.0,
    ]


def _order(one: Text, other: Text) -> list[float]:
    """Compare beginnings, ends and the order of what both have."""
    left, right = one.content, other.content
    common = {*left} & {*right}
    runs = _longest_run([word for word in left if word in common], right)
    in_order = [word for word in right if word in common]
    return [
        float(left[-1:] == right[-1:]),
        float(left[:1] == right[:1]),
        runs / max(len(left), len(right), 1),
        float(len(common) > 1 and [word for word in left if word in common] != in_order),
    ]


def _longest_run(left: list[str], right: list[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(right) + 1)
    for word in left:
        before = 0
        for place, candidate in enumerate(right, 1):
            kept = row[place]
            row[place] = before + 1 if word == candidate else max(row[place], row[place - 1])
            before = kept
    return row[-1]


def _share(one: frozenset[object], other: frozenset[object]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def _both(one: float, other: float) -> tuple[float, float]:
    return min(one, other), max(one, other)
