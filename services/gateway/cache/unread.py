"""The parts of prompts that the model does not read, which must agree before an answer is shared.

A model cuts long texts, and it does not read words whose characters it does not know. These parts
do not affect the vector, so two prompts that differ only in them have equal vectors.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import TextReading, Vectors
from services.gateway.cache.types import READING, Entry, Request

# Every model reads ASCII, and at least this many tokens of a text. A token has a character or more.
_ALWAYS_READ_CHARACTERS = 120
_TRAILING_PUNCTUATION = re.compile(r"[.,;:!?…。！？、]+(?=\s|$)")


def reading_detail(prompt: str, embedded_text: str, vectors: Vectors) -> dict[str, Any]:
    """Return how the model read a prompt, for the detail of its entry.

    It is empty if that is not known, because a caller sent the vector.

    Args:
        prompt: the prompt.
        embedded_text: the text of the first row of ``vectors``, which ends with the prompt.
        vectors: the prompt's vectors.
    """
    if not vectors.readings:
        return {}
    spans = _spans(prompt, embedded_text, vectors.readings[0])
    return {READING: {"digest": vectors.digest, "unread": spans}}


def _spans(prompt: str, embedded_text: str, reading: TextReading) -> list[int]:
    """Return the start and end of each unread part, in code points of the prompt."""
    shift = len(embedded_text) - len(prompt)
    return [max(0, place - shift) for span in reading.unread if span[1] > shift for place in span]


def unread_text(prompt: str, spans: Sequence[int]) -> str:
    """Return the unread parts of a prompt, without differences in case, spacing and punctuation."""
    parts = [prompt[start:end] for start, end in zip(spans[::2], spans[1::2], strict=True)]
    text = unicodedata.normalize("NFKC", " ".join(parts)).casefold()
    return " ".join(_TRAILING_PUNCTUATION.sub("", text).split())


def agree(one: str, other: str) -> bool:
    """Return whether the unread texts of two prompts allow the same answer.

    They are equal, or only one prompt has any, and that is decoration, such as an emoji.
    """
    if one == other:
        return True
    return not (one and other) and not any(map(str.isalnum, one + other))


async def agreeing(
    request: Request, vectors: Vectors | None, entries: Sequence[Entry], embedder: EmbedderClient
) -> list[Entry]:
    """Return the entries whose unread parts agree with those of a request.

    Args:
        request: its fingerprint is that of the entries, so its history is too.
        vectors: the request's vectors; without readings, for example from a caller's vector, all
            entries agree.
        entries: some were stored without their unread parts, and are read again.
        embedder: reads them.
    """
    if vectors is None or not vectors.readings:
        return list(entries)
    spans_of_request = _spans(request.prompt, request.embedding_text, vectors.readings[0])
    unread = unread_text(request.prompt, spans_of_request)
    spans = {entry.id: entry.unread for entry in entries}
    requests = {
        entry.id: replace(request, prompt=entry.prompt) for entry in entries if entry.unread is None
    }
    unknown = {key: one for key, one in requests.items() if not _is_read(one.embedding_text)}
    if unknown:
        read = await embedder.embed_queries([one.embedding_text for one in unknown.values()])
        for (key, one), reading in zip(unknown.items(), read.readings, strict=True):
            spans[key] = _spans(one.prompt, one.embedding_text, reading)
    return [
        entry
        for entry in entries
        if agree(unread, unread_text(entry.prompt, spans[entry.id] or []))
    ]


def _is_read(text: str) -> bool:
    """Return whether any model reads the whole text."""
    return text.isascii() and len(text) <= _ALWAYS_READ_CHARACTERS
