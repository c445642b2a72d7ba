"""Finds words that have swapped their roles between two texts, such as "from Paris to London".

The role of a word is the preposition, conjunction or quantifier before it. The role of any other
word is its side of a common word, as in "Google bought Apple".
"""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.gateway.cache.verifier.lexical_text import stem
from services.gateway.cache.verifier.vocabulary import STOP_WORDS
from services.gateway.cache.verifier.word_classes import members_of

_TOKEN = re.compile(r"(?:[A-Za-z]\.){2,}|[^\W_]+(?:['’][^\W_]+)*[+#]*|[,;:.!?()\n]")
_MARKERS = frozenset(
    """above across after against all although among as at because before behind below beneath
    beside besides by during every except for from if in inside into minus near never no not of off
    on only onto out outside over per plus since than through till times to toward towards under
    unless until upon via while with within without""".split()
)
_CONJUNCTIONS = frozenset("although because if unless while".split())  # a clause follows them
_JOINS = frozenset(("and", "or", "vs", "versus", "nor"))
# "one of my", "how to"
_NO_MARKERS = frozenset(
    [
        ("of", word)
        for word in "all any both few kind kinds lot lots many most none one type types".split()
    ]
    + [("to", word) for word in "able have how like need order possible want way ways".split()]
)
_DISTANCES = frozenset(("far", "distance"))
_ORDER_WORDS = frozenset("former latter respectively".split())
_WH_NOUNS = frozenset("who whom which what".split())
_DO = frozenset("do does did".split())
_BE = frozenset("is are was were be been being get gets got".split())
# Past forms and participles, each after its verb.
_IRREGULAR = """buy bought|beat beaten|eat ate eaten|write wrote written|sell sold|make made
|build built|bring brought|catch caught|choose chose chosen|draw drew drawn|drive drove driven
|find found|give gave given|grow grew grown|hold held|keep kept|know knew known|lead led
|leave left|lose lost|meet met|pay paid|see saw seen|send sent|shoot shot|sing sang sung
|take took taken|teach taught|tell told|throw threw thrown|understand understood|win won
|wear wore worn|bite bit bitten|break broke broken|steal stole stolen|speak spoke spoken|feed fed
|fight fought|lend lent"""
_LEMMAS = {form: forms.split()[0] for forms in _IRREGULAR.split("|") for form in forms.split()}
_MAX_BARE = 40  # words without a marker; longer texts are several sentences


Arguments = defaultdict[str, set[str]]


@dataclass
class Roles:
    """The roles of a text's content words.

    Attributes:
        firsts: the words next to each marker.
        arguments: the words in the phrase after each marker.
        by_head: the words in the phrases after a marker, by the word before it and the marker.
        markers: the markers of each word, "" for none.
        bare: the words after no marker, in order.
        markers_found: all markers of the text.
        listed: the words beside a comma, an "and" or an "or".
        words: all words, in order.
        agents: pairs of a passive verb and a word after its "by".
        verbs: the words that look like verbs.
        has_function_words: whether the text is more than a list of keywords.
        asks_for_a_noun: whether the text asks "who", "which" or "what".
        after_do: the first word after a form of "do", which is the subject of a question.
    """

    firsts: Arguments = field(default_factory=lambda: defaultdict(set))
    arguments: Arguments = field(default_factory=lambda: defaultdict(set))
    by_head: Arguments = field(default_factory=lambda: defaultdict(set))
    markers: Arguments = field(default_factory=lambda: defaultdict(set))
    bare: list[str] = field(default_factory=list)
    markers_found: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    agents: set[tuple[str, str]] = field(default_factory=set)
    verbs: set[str] = field(default_factory=set)
    has_function_words: bool = False
    asks_for_a_noun: bool = False
    after_do: str = ""


class _Reader:
    """Reads the roles of a text, token by token."""

    def __init__(self) -> None:
        self.roles = Roles()
        self._marker, self._head, self._verb, self._previous = "", "", "", ""
        self._has_argument = self._is_list = self._follows_be = self._follows_do = False

    def read(self, token: str) -> None:
        """Read the next token."""
        word = token.lower().replace("’", "'")
        is_letter = len(token) == 1 and token.isupper() and word != "i" and self._previous
        if (word, self._previous) in _NO_MARKERS or (word == "of" and self._previous in STOP_WORDS):
            pass
        elif word in _MARKERS:
            is_passive = word == "by" and self._follows_be and _is_participle(self._previous)
            self._verb = self.roles.words[-1] if is_passive else ""
            self._start(word)
        elif word in _JOINS or word == ",":
            self._list()
            if word == "," or not self._has_argument:
                self._start("")
            self._has_argument, self._is_list = False, True  # the next words have the same role
        elif not word[0].isalnum():
            self._start("")
        elif word.removesuffix("'s") in STOP_WORDS and not is_letter:
            self.roles.has_function_words = True
            self.roles.asks_for_a_noun |= word in _WH_NOUNS
            self._follows_do |= word in _DO
            self._follows_be = word in _BE or self._follows_be
            if self._has_argument:
                self._start("")
        else:
            self._add(word)
        self._previous = word

    def _start(self, marker: str) -> None:
        self._marker, self._has_argument, self._is_list = marker, False, False
        self.roles.markers_found.add(marker)
        self._head = self.roles.words[-1] if self.roles.words else ""

    def _list(self) -> None:
        self.roles.listed.update(self.roles.words[-1:])

    def _add(self, word: str) -> None:
        owner = word.removesuffix("'s")
        lemma, roles = _lemma(owner), self.roles
        roles.words.append(lemma)
        if self._follows_do:
            roles.after_do, self._follows_do = lemma, False
        roles.markers[lemma].add(self._marker)
        if self._marker:
            roles.arguments[self._marker].add(lemma)
            roles.by_head[f"{self._head} {self._marker}"].add(lemma)
            if not self._has_argument:
                roles.firsts[self._marker].add(lemma)
            if self._verb and self._marker == "by":
                roles.agents.add((self._verb, lemma))
        if not self._marker or self._marker in _CONJUNCTIONS:
            roles.bare.append(lemma)
        if word in _LEMMAS or (word[-1:] == "s" and word[-2:] != "ss"):
            roles.verbs.add(lemma)
        if self._is_list:
            self._list()
        if owner != word:
            for by_marker in (roles.firsts, roles.arguments):
                by_marker["'s"].add(lemma)
        # After an owner, the phrase continues up to the thing that is owned.
        self._has_argument, self._is_list = owner == word, False


def roles_of(text: str) -> Roles:
    """Return the roles of the content words of a text."""
    reader = _Reader()
    for token in _TOKEN.findall(text):
        reader.read(token)
    return reader.roles


def swaps_roles(one: Roles, other: Roles) -> bool:
    """Return whether two words have swapped their roles between the texts."""
    return (
        _swaps_arguments(one, other)
        or _swaps_sides(one, other)
        or _swaps_voice(one, other)
        or _swaps_voice(other, one)
        or _swaps_subject_and_object(one, other)
        or _swaps_repetitions(one, other)
        or _swaps_named_order(one, other)
    )


def _swaps_arguments(one: Roles, other: Roles) -> bool:
    def swaps(left: set[str], right: set[str]) -> bool:
        return any(
            other.markers.get(word, set()) & one.markers.get(opposite, set())
            for word in left
            for opposite in right
        )

    is_distance = not _DISTANCES.isdisjoint(one.words)  # the same from A to B as from B to A
    for marker in one.arguments.keys() & other.arguments.keys():
        if is_distance and marker in ("from", "to"):
            continue
        left, right = one.arguments[marker], other.arguments[marker]
        first, second = one.firsts[marker], other.firsts[marker]
        if first != second and swaps(first - right, second - left):
            return True
        if first == second and swaps(left - right, right - left):
            return True
    return any(
        swaps(one.by_head[key] - other.by_head[key], other.by_head[key] - one.by_head[key])
        for key in one.by_head.keys() & other.by_head.keys()
        if one.arguments[key.split()[-1]] == other.arguments[key.split()[-1]]
    )


def _swaps_sides(one: Roles, other: Roles) -> bool:
    """Return whether two words have swapped sides around a third word, such as a verb."""
    if max(len(one.bare), len(other.bare)) > _MAX_BARE:
        return False
    common = {*one.bare} & {*other.bare}
    pivots = {
        word
        for word in common - one.listed - other.listed
        if one.bare.count(word) == other.bare.count(word) == 1
    }
    if not (one.has_function_words or other.has_function_words):
        pivots &= one.verbs & other.verbs  # keywords have no order without a verb

    sides = {word: (before, after) for word, before, after in _sides(other.bare, common)}
    return any(
        before & sides[word][1] - sides[word][0] - after
        and after & sides[word][0] - sides[word][1] - before
        for word, before, after in _sides(one.bare, common)
        if word in pivots
    )


def _sides(bare: list[str], common: set[str]) -> Iterator[tuple[str, set[str], set[str]]]:
    """Yield each common word with the common words before it and after it."""
    shared = [word for word in bare if word in common]
    for position, word in enumerate(shared):
        yield word, {*shared[:position]} - {word}, {*shared[position + 1 :]} - {word}


def _swaps_voice(passive: Roles, active: Roles) -> bool:
    """Return whether the agent of a passive verb is the object of the active verb."""
    if active.agents:
        return False
    positions = {word: position for position, word in enumerate(active.bare)}
    return any(
        verb in positions and agent in positions and positions[verb] < positions[agent]
        for verb, agent in passive.agents
    )


def _swaps_subject_and_object(one: Roles, other: Roles) -> bool:
    """Return whether one text asks for a subject and the other for an object.

    "Who killed Brutus?" and "Who did Brutus kill?" differ by a swap of two neighbours, as "Who is
    taller than Bob?" and "Who is Bob taller than?" do.
    """
    if not (one.asks_for_a_noun and other.asks_for_a_noun and {*one.words} == {*other.words}):
        return False
    if "than" in one.markers_found & other.markers_found:
        return bool(one.arguments["than"]) != bool(other.arguments["than"])
    if bool(one.after_do) == bool(other.after_do):
        return False
    asks_object, asks_subject = (one, other) if one.after_do else (other, one)
    return any(
        subject == asks_object.after_do and (verb, subject) in itertools.pairwise(asks_subject.bare)
        for subject, verb in itertools.pairwise(asks_object.bare)
    )


def _swaps_repetitions(one: Roles, other: Roles) -> bool:
    """Return whether two texts with the same words repeat different ones of them."""
    left, right = Counter(one.words), Counter(other.words)
    return left.keys() == right.keys() and bool(left - right) and bool(right - left)


def _swaps_named_order(one: Roles, other: Roles) -> bool:
    """Return whether texts that refer to an order, for example with "the latter", differ in it."""
    return not _ORDER_WORDS.isdisjoint(one.words) and (
        sorted(one.words) == sorted(other.words) and one.words != other.words
    )


def _lemma(word: str) -> str:
    """Return what the forms of a word have in common: a class's member, a verb or a stem."""
    members = members_of(word)
    return members[0][1] if members else _LEMMAS.get(word) or stem(word)


def _is_participle(word: str) -> bool:
    return word.endswith("ed") or word in _LEMMAS
