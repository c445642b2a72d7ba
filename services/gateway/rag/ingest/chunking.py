"""Splits an extract into chunks that fit the embedding model, measured in the model's tokens.

A chunk stays within one section and one page. It consists of whole blocks if they fit, and
otherwise of sentences, or of lines of code and tables. It repeats the end of the previous chunk,
so that searches still find a statement that a cut divides.
"""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import sub
from typing import Protocol

from services.gateway.backends.types import TextModel
from services.gateway.rag.ingest.parsers.extract import SECTION_SEPARATOR, Block, Extract, trim
from services.gateway.rag.ingest.segmentation import Span, lines, sentences

SPECIAL_TOKENS = 2
MAX_LEAD_CHARACTERS = 300
OVERLAP_TOKENS = 32
# A tokenizer reads a block in parts of this size, so that no call and no pause of the event loop
# grows with the document.
MAX_PART_CHARACTERS = 2**12
MAX_TOKEN_CHARACTERS = 64
MAX_GAP_CHARACTERS = 200
_TOKENIZE_CHARACTERS = 2**16
_TOKENIZE_TEXTS = 256
# The fixed cost of a part, expressed in characters.
_PART_OVERHEAD = 2**7
_CHUNKS_AT_ONCE = 128


class Tokenizer(Protocol):
    """Tokenizes as the embedding model does."""

    async def text_model(self) -> TextModel:
        """Return the embedding model."""
        ...

    async def chunk_tokens(self) -> int:
        """Return how many tokens an embedded chunk may have."""
        ...

    async def token_starts(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Return the offset of each token of each text, in code points."""
        ...


@dataclass(frozen=True, slots=True)
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
        return chunk_prefix(self.lead)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A piece of text that stays whole, and its length in tokens."""

    span: Span
    tokens: int


class _Group:
    """The blocks of one section on one page, and the spans of their chunks.

    It fills chunks of up to ``max_tokens``. Each repeats the last units before it.
    """

    def __init__(self, title: str, block: Block, limit: int, lead_tokens: int) -> None:
        self.lead = chunk_lead(title, block.section)
        self.section, self.page = block.section, block.page
        self.max_tokens = max(limit // 2, limit - lead_tokens)
        self.spans: list[Span] = []
        self._chunk: list[_Unit] = []
        self._tokens = 0

    def has(self, block: Block) -> bool:
        """Return whether a block belongs to this group."""
        return (self.section, self.page) == (block.section, block.page)

    def add(self, unit: _Unit) -> None:
        """Add a unit to the current chunk, or to a new one if that is full."""
        if self._chunk and self._tokens + unit.tokens > self.max_tokens:
            self.close()
            self._chunk = _overlap(self._chunk, min(OVERLAP_TOKENS, self.max_tokens - unit.tokens))
            self._tokens = sum(one.tokens for one in self._chunk)
        self._chunk.append(unit)
        self._tokens += unit.tokens

    def close(self) -> None:
        """End the current chunk."""
        self.spans.append(Span(self._chunk[0].span.start, self._chunk[-1].span.end))


async def split(extract: Extract, title: str, tokenizer: Tokenizer) -> list[Chunk]:
    """Return the chunks of an extract in order. Together they cover all blocks.

    It pauses regularly, so that a large document does not block the event loop.
    """
    text, blocks = extract.text, extract.blocks
    limit = await tokenizer.chunk_tokens() - SPECIAL_TOKENS
    lead_tokens = await _lead_tokens([block.section for block in blocks], title, tokenizer)
    groups: list[_Group] = []
    async for block, starts in _tokenized(text, blocks, tokenizer):
        if not groups or not groups[-1].has(block):
            groups.append(_Group(title, block, limit, lead_tokens[block.section]))
        for unit in _units(text, block, starts, groups[-1].max_tokens):
            groups[-1].add(unit)
    return await _chunks(text, groups)


def chunk_prefix(lead: str) -> str:
    """Return the text that precedes a chunk in its embedded text and in its indexed text."""
    return f"{lead}\n" if lead else ""


def chunk_lead(title: str, section: str) -> str:
    """Return the title and the section that precede the text of a chunk."""
    parts = [title] if title else []
    if section and section != title:
        parts.append(section.removeprefix(title + SECTION_SEPARATOR) if title else section)
    return SECTION_SEPARATOR.join(parts)[:MAX_LEAD_CHARACTERS]


async def _lead_tokens(sections: Sequence[str], title: str, tokenizer: Tokenizer) -> dict[str, int]:
    """Return the number of tokens before the text of a chunk: the prompt and its section's lead."""
    prompt = (await tokenizer.text_model()).document_prompt
    tokens: dict[str, int] = {}
    distinct = list(dict.fromkeys(sections))
    for first in range(0, len(distinct), _TOKENIZE_TEXTS):
        batch = distinct[first : first + _TOKENIZE_TEXTS]
        leads = [prompt + chunk_lead(title, section) for section in batch]
        starts = await tokenizer.token_starts(leads)
        tokens |= zip(batch, map(len, starts), strict=True)
    return tokens


async def _tokenized(
    text: str, blocks: Sequence[Block], tokenizer: Tokenizer
) -> AsyncIterator[tuple[Block, Sequence[int]]]:
    """Yield the parts of blocks, and the offset of each of their tokens.

    It sends texts of bounded size, and lets other tasks run after every few.
    """
    parts = (part for block in blocks for part in _parts(text, block))
    while batch := _next_batch(parts):
        found = await tokenizer.token_starts([text[one.start : one.end] for one in batch])
        work = 0
        for part, starts in zip(batch, found, strict=True):
            yield part, starts
            work += part.end - part.start + _PART_OVERHEAD
            if work > MAX_PART_CHARACTERS:
                await asyncio.sleep(0)
                work = 0


def _next_batch(parts: Iterator[Block]) -> list[Block]:
    batch, size = [], 0
    for part in parts:
        batch.append(part)
        size += part.end - part.start
        if size >= _TOKENIZE_CHARACTERS or len(batch) >= _TOKENIZE_TEXTS:
            break
    return batch


def _parts(text: str, block: Block) -> Iterator[Block]:
    """Yield a block in parts of up to ``MAX_PART_CHARACTERS``."""
    start = block.start
    while block.end - start > MAX_PART_CHARACTERS:
        end = _part_end(text, start, start + MAX_PART_CHARACTERS, by_lines=block.by_lines)
        for place in trim(text, start, end):
            yield replace(block, start=place[0], end=place[1])
        start = end
    for place in trim(text, start, block.end):
        yield replace(block, start=place[0], end=place[1])


def _part_end(text: str, start: int, end: int, *, by_lines: bool) -> int:
    """Return where to cut a text before ``end``: after a line, a sentence or a word if possible."""
    if not by_lines and (last := sentences(text, Span(start, end))[1:]):
        return last[-1].start
    return (text.rfind("\n", start, end) + 1) or (text.rfind(" ", start, end) + 1) or end


def _units(text: str, block: Block, starts: Sequence[int], max_tokens: int) -> list[_Unit]:
    """Return a short block as one unit, and a long block as its sentences or lines."""
    whole = Span(block.start, block.end)
    starts = _dense(starts, block.end - block.start)
    if len(starts) <= (max_tokens if block.by_lines else max_tokens // 2):
        return [_Unit(whole, max(1, len(starts)))]
    parts = lines(text, whole) if block.by_lines else sentences(text, whole)
    return [unit for part in parts for unit in _cut(part, block.start, starts, max_tokens)]


def _dense(starts: Sequence[int], length: int) -> Sequence[int]:
    """Return the offsets of tokens, and divide tokens that are too long.

    Models read long words and unknown characters as one token or none. The limit in tokens would
    not limit the length of such a chunk.
    """
    edges = [*starts, length] if starts and not starts[0] else [0, *starts, length]
    if max(map(sub, edges[1:], edges)) <= MAX_TOKEN_CHARACTERS:
        return starts
    return [
        place
        for start, end in pairwise(edges)
        for place in range(start, max(end, start + 1), MAX_TOKEN_CHARACTERS)
    ]


def _cut(part: Span, offset: int, starts: Sequence[int], max_tokens: int) -> list[_Unit]:
    """Cut a part that is longer than ``max_tokens`` between two tokens.

    ``starts`` are the offsets of the block's tokens from ``offset``, where the block begins.
    """
    first = bisect_left(starts, part.start - offset)
    last = bisect_left(starts, part.end - offset)
    if last - first <= max_tokens:
        return [_Unit(part, max(1, last - first))]
    units = []
    start = part.start
    for at in range(first, last, max_tokens):
        end = part.end if at + max_tokens >= last else offset + starts[at + max_tokens]
        units.append(_Unit(Span(start, end), min(max_tokens, last - at)))
        start = end
    return units


def _overlap(chunk: Sequence[_Unit], max_tokens: int) -> list[_Unit]:
    """Return the last units of a chunk that fit ``max_tokens``, but never the whole chunk."""
    tail: list[_Unit] = []
    for unit in reversed(chunk[1:]):
        max_tokens -= unit.tokens
        if max_tokens < 0:
            break
        tail.append(unit)
    return tail[::-1]


async def _chunks(text: str, groups: Sequence[_Group]) -> list[Chunk]:
    """Return the chunks of all groups, with their neighbours."""
    for group in groups:
        group.close()
    located = [(group, at) for group in groups for at in range(len(group.spans))]
    chunks = []
    for number, (group, at) in enumerate(located):
        if number % _CHUNKS_AT_ONCE == 0:
            await asyncio.sleep(0)  # other tasks run
        spans, gap = group.spans, None
        if number + 1 < len(located):
            next_group, next_at = located[number + 1]
            gap = _gap(text, spans[at].end, next_group.spans[next_at].start)
        context = Span(spans[max(0, at - 1)].start, spans[min(at + 1, len(spans) - 1)].end)
        chunks.append(Chunk(spans[at], context, group.lead, group.section, group.page, number, gap))
    return chunks


def _gap(text: str, end: int, start: int) -> str | None:
    """Return the white space between two chunks; None if it is long or not only white space."""
    between = text[end : min(start, end + MAX_GAP_CHARACTERS + 1)]
    return between if len(between) <= MAX_GAP_CHARACTERS and not between.strip() else None
