"""The words of a question that say what it is about, and how many of them a text has."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from services.gateway.cache.verifier.lexical_text import stem
from services.gateway.cache.verifier.vocabulary import STOP_WORDS
from services.words import query_words, words

# How people ask, in addition to stop words: "Can you explain to me what … means, please?"
_ASKING = STOP_WORDS | frozenset(
    """on to from by tell explain describe show give list name say please let know find want need
    mean means meaning called kind sort thing exactly me much many long far often old
    tall big""".split()
)


class QuestionWords:
    """The stems of a question's words, without stop words and words that only ask."""

    def __init__(self, question: str) -> None:
        self.stems = frozenset(
            stem(word) for word in query_words(question) if word not in _ASKING and word.strip("_")
        )

    def found_in(self, text: str) -> frozenset[str]:
        """Return those of the stems that a text has, also within a name like ``log_level``."""
        every = words(text)
        parts = (part for word in every if "_" in word for part in word.split("_"))
        return self.stems & {stem(word) for word in chain(every, parts)}


def weights(stems: frozenset[str], found: Sequence[frozenset[str]]) -> dict[str, float]:
    """Return the weight of each stem: the fewer texts have it, the higher; the sum is 1.

    Args:
        stems: the stems of a question.
        found: those that each text has.
    """
    counts = Counter(one for each in found for one in each)
    raw = {one: math.log(1 + (len(found) + 1) / (counts[one] + 0.5)) for one in stems}
    total = sum(raw.values()) or 1.0
    return {one: value / total for one, value in raw.items()}
