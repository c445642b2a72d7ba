"""Cuts an extract into chunks that an embedding model reads whole, counted in its own tokens.

A chunk keeps to one section and one page. It is made of whole blocks where they fit, else of
sentences, or of lines of code and tables; it repeats the end of the chunk before, so that what is
said across a cut is found.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import Protocol

from services.gateway.backends.types import TextModel
from services.gateway.rag.ingest.parsers.extract import SECTION_SEPARATOR, Block, Extract
from services.gateway.rag.ingest.segmentation import Span, lines, sentences

# A model that reads more is not asked to: a passage is to be read, and cited.
CHUNK_TOKENS = 256
SPECIAL_TOKENS = 2
LEAD_CHARACTERS = 300
OVERLAP_TOKENS = 32
_TOKENIZE_CHARACTERS = 2**18
_TOKENIZE_TEXTS = 256


class Tokenizer(Protocol):
    """Counts as the embedding model does."""

    async def text_model(self) -> TextModel:
        """Return what there is to know of the model."""
        ...

    async def token_starts(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Return where the tokens of each text begin, in code points."""
        ...


@dataclass(frozen=True)
class Chunk:
    """A piece of an extract; ``lead``, its title and section, is embedded and indexed before it.

    Attributes:
        around: the piece with its backends in the same section and page.
        gap: the white space up to the next chunk, or None if more lies between.
    """

    span: Span
    around: Span
    lead: str
    section: str
    page: int
    number: int = 0
    gap: str | None = None

    def text(self, extract: Extract) -> str:
        """Return what is embedded: what it is about, and its words."""
        return self.before() + self.span.of(extract.text)

    def words(self, extract: Extract) -> str:
        """Return what it is found by in words: what it is about, and its words in their context.

        A cut falls where a chunk is full, not where a subject ends: what is asked for is often
        said on both sides of it (Callan, "Passage-level evidence in document retrieval", 1994).
        """
        return self.before() + self.around.of(extract.text)

    def place(self) -> int:
        """Return where its own words begin in ``words``."""
        return len(self.before()) + self.span.start - self.around.start

    def before(self) -> str:
        """Return what goes before its words."""
        return f"{self.lead}\n" if self.lead else ""


@dataclass(frozen=True)
class _Unit:
    """What is not cut any further, and its length in tokens."""

    span: Span
    tokens: int


async def cut(extract: Extract, title: str, tokenizer: Tokenizer) -> list[Chunk]:
    """Return the chunks of an extract in order; they cover all its blocks."""
    text, blocks = extract.text, extract.blocks
    leads = list(dict.fromkeys(_lead(title, block.section) for block in blocks))
    pieces = [text[block.start : block.end] for block in blocks]
    starts = await _token_starts([*pieces, *leads], tokenizer)
    lead_tokens = dict(zip(leads, map(len, starts[len(blocks) :]), strict=True))
    most = min((await tokenizer.text_model()).max_tokens, CHUNK_TOKENS) - SPECIAL_TOKENS
    chunks = []
    numbered = zip(blocks, starts, strict=False)
    for (section, page), group in groupby(numbered, lambda one: (one[0].section, one[0].page)):
        lead = _lead(title, section)
        room = max(most // 2, most - lead_tokens[lead])
        units = [unit for block, at in group for unit in _units(text, block, at, room)]
        spans = _pack(units, room)
        for at, span in enumerate(spans):
            around = Span(spans[max(0, at - 1)].start, spans[min(at + 1, len(spans) - 1)].end)
            chunks.append(Chunk(span, around, lead, section, page))
    return [
        replace(one, number=number, gap=_gap(text, one, other))
        for number, (one, other) in enumerate(zip_longest(chunks, chunks[1:]))
    ]


def _lead(title: str, section: str) -> str:
    parts = [title] if title else []
    if section and section != title:
        parts.append(section.removeprefix(title + SECTION_SEPARATOR) if title else section)
    return SECTION_SEPARATOR.join(parts)[:LEAD_CHARACTERS]


async def _token_starts(texts: Sequence[str], tokenizer: Tokenizer) -> list[Sequence[int]]:
    """Return where the tokens of each text begin, redis_errors in bounded batches."""
    found: list[Sequence[int]] = []
    first, size = 0, 0
    for number, text in enumerate(texts, 1):
        size += len(text)
        full = size >= _TOKENIZE_CHARACTERS or number - first >= _TOKENIZE_TEXTS
        if full or number == len(texts):
            found += await tokenizer.token_starts(texts[first:number])
            first, size = number, 0
    return found


def _units(text: str, block: Block, starts: Sequence[int], room: int) -> list[_Unit]:
    """Return a block whole if it is short, else its sentences or lines, the long ones cut."""
    whole = Span(block.start, block.end)
    if len(starts) <= (room if block.by_lines else room // 2):
        return [_Unit(whole, len(starts))]
    parts = lines(text, whole) if block.by_lines else sentences(text, whole)
    return [unit for part in parts for unit in _cut(part, block.start, starts, room)]


def _cut(part: Span, offset: int, starts: Sequence[int], room: int) -> list[_Unit]:
    """Cut what is longer than ``room`` tokens between two tokens."""
    first = bisect_left(starts, part.start - offset)
    last = bisect_left(starts, part.end - offset)
    units = []
    begun = part.start
    for at in range(first, max(last, first + 1), room):
        end = part.end if at + room >= last else offset + starts[at + room]
        units.append(_Unit(Span(begun, end), min(room, last - at)))
        begun = end
    return units


def _pack(units: Sequence[_Unit], room: int) -> list[Span]:
    """Fill chunks of ``room`` tokens with units; each repeats a little of the one before."""
    spans: list[Span] = []
    held: list[_Unit] = []
    for unit in units:
        if held and sum(one.tokens for one in held) + unit.tokens > room:
            spans.append(Span(held[0].span.start, held[-1].span.end))
            held = _repeated(held, min(OVERLAP_TOKENS, room - unit.tokens))
        held.append(unit)
    if held:
        spans.append(Span(held[0].span.start, held[-1].span.end))
    return spans


def _repeated(held: Sequence[_Unit], most: int) -> list[_Unit]:
    """Return the last units that fit ``most`` tokens, but never all of them."""
    tail: list[_Unit] = []
    for unit in reversed(held[1:]):
        most -= unit.tokens
        if most < 0:
            break
        tail.insert(0, unit)
    return tail


def _gap(text: str, one: Chunk, other: Chunk | None) -> str | None:
    if other is None:
        return None
    between = text[one.span.end : other.span.start]
    return between if not between.strip() else None
