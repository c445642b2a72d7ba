"""Splits an extract into chunks that fit the embedding model, measured in the model's tokens.

A chunk stays within one section and one page. It consists of whole blocks if they fit, and
otherwise of sentences, or of lines of code and tables. It repeats the end of the previous chunk,
so that searches still find a statement that a cut divides.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import Protocol

from services.gateway.backends.types import TextModel
from services.gateway.rag.ingest.parsers.extract import SECTION_SEPARATOR, Block, Extract
from services.gateway.rag.ingest.segmentation import Span, lines, sentences

# The limit for models that read more, since people read and cite chunks.
MAX_CHUNK_TOKENS = 256
SPECIAL_TOKENS = 2
MAX_LEAD_CHARACTERS = 300
OVERLAP_TOKENS = 32
_TOKENIZE_CHARACTERS = 2**18
_TOKENIZE_TEXTS = 256


class Tokenizer(Protocol):
    """Tokenizes as the embedding model does."""

    async def text_model(self) -> TextModel:
        """Return the embedding model."""
        ...

    async def token_starts(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Return the offset of each token of each text, in code points."""
        ...


@dataclass(frozen=True)
class Chunk:
    """A part of an extract.

    Attributes:
        span: the chunk's place in the extract's text.
        context: the span with the previous and the next chunk of the same section and page.
        lead: title and section, which are embedded and indexed in front of the text.
        number: the chunk's position in the document, from 0.
        gap: the white space before the next chunk, or None if other text comes between.
    """

    span: Span
    context: Span
    lead: str
    section: str
    page: int
    number: int = 0
    gap: str | None = None

    def embedded_text(self, extract: Extract) -> str:
        """Return the text to embed: the lead and the chunk's text."""
        return self._prefix() + self.span.of(extract.text)

    def indexed_text(self, extract: Extract) -> str:
        """Return the text that text queries match: the lead and the context.

        A cut falls where a chunk is full, not where a subject ends, and the words of a question
        are often on both sides of it (Callan, "Passage-level evidence in document retrieval",
        1994).
        """
        return self._prefix() + self.context.of(extract.text)

    def offset(self) -> int:
        """Return the offset of the chunk's text in ``indexed_text``, in code points."""
        return len(self._prefix()) + self.span.start - self.context.start

    def _prefix(self) -> str:
        return f"{self.lead}\n" if self.lead else ""


@dataclass(frozen=True)
class _Unit:
    """A piece of text that stays whole, and its length in tokens."""

    span: Span
    tokens: int


async def split(extract: Extract, title: str, tokenizer: Tokenizer) -> list[Chunk]:
    """Return the chunks of an extract in order. Together they cover all blocks."""
    text, blocks = extract.text, extract.blocks
    leads = list(dict.fromkeys(_lead(title, block.section) for block in blocks))
    pieces = [text[block.start : block.end] for block in blocks]
    starts = await _token_starts([*pieces, *leads], tokenizer)
    lead_tokens = dict(zip(leads, map(len, starts[len(blocks) :]), strict=True))
    limit = min((await tokenizer.text_model()).max_tokens, MAX_CHUNK_TOKENS) - SPECIAL_TOKENS
    chunks = []
    tokenized = zip(blocks, starts, strict=False)
    for (section, page), group in groupby(tokenized, lambda one: (one[0].section, one[0].page)):
        lead = _lead(title, section)
        max_tokens = max(limit // 2, limit - lead_tokens[lead])
        units = [unit for block, at in group for unit in _units(text, block, at, max_tokens)]
        spans = _pack(units, max_tokens)
        for at, span in enumerate(spans):
            context = Span(spans[max(0, at - 1)].start, spans[min(at + 1, len(spans) - 1)].end)
            chunks.append(Chunk(span, context, lead, section, page))
    return [
        replace(one, number=number, gap=_gap(text, one, following))
        for number, (one, following) in enumerate(zip_longest(chunks, chunks[1:]))
    ]


def _lead(title: str, section: str) -> str:
    parts = [title] if title else []
    if section and section != title:
        parts.append(section.removeprefix(title + SECTION_SEPARATOR) if title else section)
    return SECTION_SEPARATOR.join(parts)[:MAX_LEAD_CHARACTERS]


async def _token_starts(texts: Sequence[str], tokenizer: Tokenizer) -> list[Sequence[int]]:
    """Tokenize texts in batches of bounded size."""
    found: list[Sequence[int]] = []
    first, size = 0, 0
    for number, text in enumerate(texts, 1):
        size += len(text)
        full = size >= _TOKENIZE_CHARACTERS or number - first >= _TOKENIZE_TEXTS
        if full or number == len(texts):
            found += await tokenizer.token_starts(texts[first:number])
            first, size = number, 0
    return found


def _units(text: str, block: Block, starts: Sequence[int], max_tokens: int) -> list[_Unit]:
    """Return a short block as one unit, and a long block as its sentences or lines."""
    whole = Span(block.start, block.end)
    if len(starts) <= (max_tokens if block.by_lines else max_tokens // 2):
        return [_Unit(whole, len(starts))]
    parts = lines(text, whole) if block.by_lines else sentences(text, whole)
    return [unit for part in parts for unit in _cut(part, block.start, starts, max_tokens)]


def _cut(part: Span, offset: int, starts: Sequence[int], max_tokens: int) -> list[_Unit]:
    """Cut a part that is longer than ``max_tokens`` between two tokens.

    ``starts`` are the offsets of the block's tokens from ``offset``, where the block begins.
    """
    first = bisect_left(starts, part.start - offset)
    last = bisect_left(starts, part.end - offset)
    units = []
    start = part.start
    for at in range(first, max(last, first + 1), max_tokens):
        end = part.end if at + max_tokens >= last else offset + starts[at + max_tokens]
        units.append(_Unit(Span(start, end), min(max_tokens, last - at)))
        start = end
    return units


def _pack(units: Sequence[_Unit], max_tokens: int) -> list[Span]:
    """Fill chunks of up to ``max_tokens`` with units. Each repeats the last units before it."""
    spans: list[Span] = []
    chunk: list[_Unit] = []
    for unit in units:
        if chunk and sum(one.tokens for one in chunk) + unit.tokens > max_tokens:
            spans.append(Span(chunk[0].span.start, chunk[-1].span.end))
            chunk = _overlap(chunk, min(OVERLAP_TOKENS, max_tokens - unit.tokens))
        chunk.append(unit)
    if chunk:
        spans.append(Span(chunk[0].span.start, chunk[-1].span.end))
    return spans


def _overlap(chunk: Sequence[_Unit], max_tokens: int) -> list[_Unit]:
    """Return the last units of a chunk that fit ``max_tokens``, but never the whole chunk."""
    tail: list[_Unit] = []
    for unit in reversed(chunk[1:]):
        max_tokens -= unit.tokens
        if max_tokens < 0:
            break
        tail.insert(0, unit)
    return tail


def _gap(text: str, one: Chunk, following: Chunk | None) -> str | None:
    if following is None:
        return None
    between = text[one.span.end : following.span.start]
    return between if not between.strip() else None
