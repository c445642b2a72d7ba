"""Makes questions from SciFact's claims that look answerable, and that its documents do not answer."""

import random
import re
from collections.abc import Callable, Iterator, Sequence

from services.gateway.cache.verifier.lexical_text import LexicalText, stem
from services.gateway.cache.verifier.vocabulary import STOP_WORDS

_NUMBER = re.compile(r"(?<![\w.,-])\d+(?:[.,]\d+)*(?![\w-])")
_WORD = re.compile(r"[^\W_][\w'’/+-]*")
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|can|cannot|does|do|increases?|decreases?|reduces?|inhibits?|induces?"
    r"|causes?|leads?|results?|promotes?|enhances?|regulates?|activates?|plays?|shows?|affects?|improves?"
    r"|prevents?|contributes?|requires?|binds?|lowers?|modulates?|suppresses|correlates?|interacts?)\b"
)


def swapped_number(claim: str, claims: Sequence[str], rng: random.Random) -> str:
    """Replace a number by another one with as many digits; "" if there is none."""
    found = list(_NUMBER.finditer(claim))
    if not found:
        return ""
    chosen = rng.choice(found)
    digits = chosen[0]
    while digits == chosen[0]:
        digits = re.sub(r"\d", lambda _: str(rng.randint(1, 9)), chosen[0])
    return claim[: chosen.start()] + digits + claim[chosen.end() :]


def swapped_entity(claim: str, claims: Sequence[str], rng: random.Random) -> str:
    """Replace a name, or the longest word, by one of another claim."""
    word = _entity(claim)
    others = [one for other in claims if (one := _entity(other)) and stem(one) not in _stems(claim)]
    return claim.replace(word, rng.choice(others), 1) if word else ""


def false_premise(claim: str, claims: Sequence[str], rng: random.Random) -> str:
    """Say of the subject of a claim what another claim says of another one; "" without a verb."""
    verb = _VERB.search(claim, 3)
    predicates = [
        other[found.start() :]
        for other in claims
        if other != claim and (found := _VERB.search(other, 3))
    ]
    return claim[: verb.start()] + rng.choice(predicates) if verb else ""


KINDS: dict[str, Callable[[str, Sequence[str], random.Random], str]] = {
    "number swapped": swapped_number,
    "entity swapped": swapped_entity,
    "false premise": false_premise,
}


def generate(claims: Sequence[str], seed: int = 1) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the claim and the question made from it, for every claim and kind."""
    for kind, change in KINDS.items():
        rng = random.Random(seed)
        for claim in claims:
            changed = change(claim, claims, rng)
            if changed and changed != claim:
                yield kind, claim, changed


def _entity(claim: str) -> str:
    """Return the longest name of a claim, or its longest word."""
    words = [word for word in _WORD.findall(claim) if word.lower() not in STOP_WORDS]
    names = [
        word for word in words if not word[1:].islower() or (word != words[0] and word[0].isupper())
    ]
    return max(names or words, key=len, default="")


def _stems(text: str) -> set[str]:
    return set(LexicalText(text).content)
