"""Opposites: listed pairs of words with their inflections, and pairs of prefixes."""

from collections import defaultdict
from collections.abc import Collection, Iterator

from services.gateway.cache.verifier.vocabulary import ANTONYMS

_PAIRS = """eldest youngest|oldest youngest|adult child|adults children|pickup delivery|on off
|up down|open closed|shut open|free paid|allowed forbidden|allowed prohibited|permitted forbidden
|legal forbidden|minimum maximum|least most|most fewest|few many|fewer more|longest shortest
|known unknown|uppercase lowercase|upper lower|oldest newest|older younger|older newer
|latest oldest|latest earliest|latest first|nearest farthest|nearest furthest|closest farthest
|near far|wide narrow|deep shallow|tall short|tallest shortest|tallest smallest|biggest smallest
|largest smallest|highest lowest|best worst|richest poorest|fastest slowest|hottest coldest
|warmest coldest|hard soft|loud quiet|raw cooked|single married|guilty innocent|sweet bitter
|liquid solid|sharp blunt|rough smooth|tight loose|optional required|optional mandatory
|voluntary mandatory|true fake|real fake|genuine fake|ripe raw|sober drunk|broken intact
|rural urban|tame wild|polite rude|brave cowardly|generous stingy|busy idle|early late|won lost
|bought sold|buyer seller|gave took|give take|given taken|came went|come go|asked answered
|borrowed lent|found lost|find lose|won losing|ask answer|raise cut|raised lowered|rise fall
|rising falling|rose fell|grew shrank|growing shrinking|show hide|shown hidden|visible hidden
|save discard|keep discard|launch quit|begin finish|start finish|start end|began ended
|started stopped|start pause|accept decline|accept refuse|agree refuse|arrival departure
|arrivals departures|incoming outgoing|inbound outbound|income expense|income expenses
|revenue cost|gross net|wholesale retail|domestic international|national international
|local remote|online offline|manual automatic|manually automatically|static dynamic|public secret
|read write|reading writing|reader writer|sender receiver|sender recipient|client server
|host guest|parent child|teacher student|doctor patient|plaintiff defendant|landlord tenant
|lender borrower|absent present|absence presence|alive deceased|born died|birth death|life death
|peace war|friend enemy|hero villain|winner loser|victory defeat|heaven hell|angel devil|god devil
|plus minus|add subtract|multiply divide|numerator denominator|sum difference|squared cubed
|sine cosine|acid base|acidic alkaline|proton electron|anode cathode|artery vein
|inductor capacitor|credit cash|asset debt|bull bear|bullish bearish|inflation deflation
|surplus deficit|ancestor descendant|predecessor successor|previous next|prior subsequent|only all
|many none|some none|always sometimes|always rarely|often rarely|often seldom|never sometimes"""
# Prefixes that are opposites in front of the same remainder.
_PREFIXES = """in out|in ex|in de|im ex|on off|up down|over under|pre post|hyper hypo|max min
|micro macro|mini maxi|inter intra|en dis|em dis|con dis|pro anti|en un|ein aus|an ab|auf zu|w wy
|в вы|за от"""
# Prefixes that turn a word into its opposite.
_NEGATING = "un in im il ir dis non de mis anti des dés dé".split()
_SUFFIXES = (("ful", "less"), ("er", "ee"), ("or", "ee"), ("maker", "taker"))
_MIN_COMMON, _MIN_NEGATED = 3, 4
# These have many uses. They are opposites only in texts that differ in at most this many words.
_PARTICLES = frozenset("on off up down over under".split())
_MAX_BESIDE_PARTICLES = 2


def _inflections(word: str) -> Iterator[str]:
    """Yield a word with common English endings."""
    stem = word[:-1] if word[-1] in "ey" else word
    yield from (word, f"{word}s", f"{word}ed", f"{word}ing", f"{stem}ed", f"{stem}ing")
    yield from (f"{word}er", f"{word}est", f"{stem}er", f"{stem}est", f"{stem}ier", f"{stem}iest")
    yield from (f"{word}{word[-1]}er", f"{word}{word[-1]}est", f"{word}{word[-1]}ing")


def _opposites_of() -> dict[str, frozenset[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    pairs = [tuple(pair) for pair in ANTONYMS]
    for one, other in [*pairs, *(tuple(pair.split()) for pair in _PAIRS.split("|"))]:
        for left, right in ((one, other), (other, one)):
            for form in _inflections(left):
                found[form].update(_inflections(right))
    return {word: frozenset(others) for word, others in found.items()}


def _prefix_pairs() -> dict[str, tuple[str, ...]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for pair in _PREFIXES.split("|"):
        one, other = pair.split()
        found[one].append(other)
        found[other].append(one)
    return {prefix: tuple(others) for prefix, others in found.items()}


_OPPOSITES = _opposites_of()
_PREFIX_OPPOSITES = _prefix_pairs()
_MAX_PREFIX = max(map(len, _PREFIX_OPPOSITES))


def have_opposites(one: Collection[str], other: Collection[str]) -> bool:
    """Return whether a word of one text is the opposite of a word of the other.

    Words in both texts do not count. Words beside their own opposite, as in "is it bigger or
    smaller", do not count either. Particles do not count in texts that differ in many words.
    """
    words, others = frozenset(one), frozenset(other)
    left, right = _without_contrasts(words) - others, _without_contrasts(others) - words
    if max(len(left), len(right)) > _MAX_BESIDE_PARTICLES:
        left, right = left - _PARTICLES, right - _PARTICLES
    return (
        any(not right.isdisjoint(_OPPOSITES.get(word, ())) for word in left)
        or any(form in right for word in left for form in _derived_opposites(word, words))
        or any(form in left for word in right for form in _negated(word, others))
    )


def _without_contrasts(words: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in words if words.isdisjoint(_OPPOSITES.get(word, ())))


def _derived_opposites(word: str, apart: frozenset[str]) -> Iterator[str]:
    """Yield the opposites of a word by a prefix or a suffix.

    ``apart`` are the words of its text. A prefix that the text writes separately does not negate.
    """
    yield from _negated(word, apart)
    for length in range(1, min(len(word) - _MIN_COMMON, _MAX_PREFIX) + 1):
        for prefix in _PREFIX_OPPOSITES.get(word[:length], ()):
            yield prefix + word[length:]
    for one, other in _SUFFIXES:
        if word.endswith(one):
            yield word.removesuffix(one) + other
        if word.endswith(other):
            yield word.removesuffix(other) + one


def _negated(word: str, apart: frozenset[str]) -> Iterator[str]:
    if len(word) >= _MIN_NEGATED:
        yield from (prefix + word for prefix in _NEGATING if prefix not in apart)
