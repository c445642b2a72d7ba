import re
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.backends.types import TextModel
from services.gateway.rag.ingest import chunking
from services.gateway.rag.ingest.chunking import OVERLAP_TOKENS, Chunk
from services.gateway.rag.ingest.parsers import markdown, plain
from services.gateway.rag.ingest.parsers.extract import Block, Extract

LIMIT = 100
ROOM = LIMIT - chunking.SPECIAL_TOKENS


class Words:
    """A model that reads a hundred words."""

    async def token_starts(self, texts: list[str]) -> list[list[int]]:
        return [[match.start() for match in re.finditer(r"\w+|[^\w\s]", text)] for text in texts]

    async def text_model(self) -> TextModel:
        return TextModel("digest", 4, LIMIT)


async def cut(extract: Extract, title: str = "") -> list[Chunk]:
    embedder: Any = Words()
    return await chunking.cut(extract, title, embedder)


def tokens(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def sentence(number: int, words: int = 10) -> str:
    return "This " + " ".join(f"w{number}x{n}" for n in range(words - 2)) + "."


async def test_chunks_keep_to_the_limit_and_repeat_the_end_of_the_one_before() -> None:
    text = " ".join(sentence(number) for number in range(60))
    found = await cut(plain.read(text.encode()))
    assert len(found) > 5
    for chunk in found:
        assert tokens(chunk.text(plain.read(text.encode()))) <= ROOM
    for one, other in pairwise(found):
        assert one.span.start < other.span.start < one.span.end < other.span.end
        assert 0 < tokens(text[other.span.start : one.span.end]) <= OVERLAP_TOKENS


async def test_a_chunk_is_found_by_its_neighbours_words_too_but_not_by_other_sections() -> None:
    long = " ".join(sentence(number) for number in range(30))
    text = f"# A\n\n{long}\n\n# B\n\nThe end."
    extract = markdown.read(text.encode())
    *of_a, of_b = await cut(extract, "Book")
    assert len(of_a) > 3
    for before, one, after in zip(of_a, of_a[1:], of_a[2:], strict=False):
        assert one.around.of(text) == text[before.span.start : after.span.end]
    assert (of_a[0].around.start, of_a[-1].around.end) == (of_a[0].span.start, of_a[-1].span.end)
    assert of_b.words(extract) == of_b.text(extract) == "Book › B\n# B\n\nThe end."
    for one in (*of_a, of_b):
        own = one.span.of(text)
        assert one.words(extract)[one.place() :].startswith(own)


async def test_sections_are_not_mixed_and_lead_their_chunks() -> None:
    extract = markdown.read(b"# A\n\nOne.\n\n## B\n\nTwo.\n\n# C\n\nThree.")
    found = await cut(extract, "Book")
    assert [chunk.text(extract) for chunk in found] == [
        "Book › A\n# A\n\nOne.",
        "Book › A › B\n## B\n\nTwo.",
        "Book › C\n# C\n\nThree.",
    ]
    assert [chunk.gap for chunk in found] == ["\n\n", "\n\n", None]


async def test_a_title_is_not_said_twice() -> None:
    extract = markdown.read(b"# A\n\n## B\n\nTwo.")
    assert [chunk.lead for chunk in await cut(extract, "A")] == ["A", "A › B"]


async def test_short_code_stays_whole_and_long_code_is_cut_at_lines() -> None:
    code = "\n".join(f"line{number} = {number}" for number in range(60))
    extract = markdown.read(f"```\n{code}\n```".encode())
    found = await cut(extract)
    assert len(found) > 1
    for chunk in found:
        assert extract.text[chunk.span.start - 1 : chunk.span.start] in ("", "\n")


async def test_a_word_without_end_is_cut() -> None:
    text = "x " * 1000
    extract = Extract(text, [Block(0, len(text) - 1)])
    found = await cut(extract)
    assert all(0 < tokens(chunk.text(extract)) <= ROOM for chunk in found)


@settings(deadline=None)
@given(st.text(alphabet="ab .\n?!#é🐈`|-", max_size=900))
async def test_all_blocks_are_covered(text: str) -> None:
    extract = markdown.read(text.encode())
    found = await cut(extract, "Title")
    covered = {place for one in found for place in range(one.span.start, one.span.end)}
    for block in extract.blocks:
        for place in range(block.start, block.end):
            assert place in covered or extract.text[place].isspace()
    assert [chunk.number for chunk in found] == list(range(len(found)))
