"""Turns texts and queries into the stems that full-text queries rank by."""

import hashlib
import re
import threading
from collections.abc import Sequence

import Stemmer
from bm25s.stopwords import STOPWORDS_EN

from services.words import query_words, words

_MAX_TERM_BYTES = 32
_PLAIN_TERM = re.compile(rf"[a-z0-9]{{1,{_MAX_TERM_BYTES}}}")
_STOP_WORDS = frozenset(STOPWORDS_EN)
# PyStemmer's objects are not thread-safe, so every thread has its own.
_thread_local = threading.local()


def stems(text: str) -> list[str]:
    """Return the English stems of a document's text in order, without stop words.

    The algorithm is Porter 2 (https://snowballstem.org/algorithms/english/stemmer.html). Every stem
    consists of a-z and 0-9, so keys and queries need no escaping.
    """
    return _stems(words(text))


def query_stems(text: str) -> list[str]:
    """Return the stems that a query ranks documents by, in order."""
    return _stems(query_words(text))


def _stems(of: Sequence[str]) -> list[str]:
    if not hasattr(_thread_local, "stemmer"):
        _thread_local.stemmer = Stemmer.Stemmer("english")
    content_words = [word for word in of if word not in _STOP_WORDS]
    return [
        stem if _PLAIN_TERM.fullmatch(stem) else encode_term(stem)
        for stem in _thread_local.stemmer.stemWords(content_words)
    ]


def encode_term(term: str) -> str:
    """Encode any text as letters and digits, which need no escaping in a query.

    Texts of up to 32 bytes become ``x`` and their hexadecimal digits. Longer texts become ``s`` and
    their SHA-256.
    """
    data = term.encode()
    if len(data) > _MAX_TERM_BYTES:
        return "s" + hashlib.sha256(data).hexdigest()
    return "x" + data.hex()
