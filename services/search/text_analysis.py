"""The words of a text as they are ranked by: lower case, no stop words, English stems."""

import hashlib
import re
import threading

import Stemmer
from bm25s.stopwords import STOPWORDS_EN

from services.search.filters import words

_PLAIN = re.compile(r"[a-z0-9]+")
_TOKEN_BYTES = 32
_STOP_WORDS = frozenset(STOPWORDS_EN)
# A stemmer is not safe to share between threads.
_own = threading.local()


def stems(text: str) -> list[str]:
    """Return the stems of a text in order, each made of a-z and 0-9 alone (Porter 2)."""
    if not hasattr(_own, "stemmer"):
        _own.stemmer = Stemmer.Stemmer("english")
    kept = [word for word in words(text) if word not in _STOP_WORDS]
    return [_plain(stem) for stem in _own.stemmer.stemWords(kept)]


def _plain(stem: str) -> str:
    data = stem.encode()
    if len(data) > _TOKEN_BYTES:
        return "s" + hashlib.sha256(data).hexdigest()
    return stem if _PLAIN.fullmatch(stem) else "x" + data.hex()
