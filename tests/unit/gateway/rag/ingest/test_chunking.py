import re
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.backends.types import TextModel
from services.gateway.rag.ingest import chunking
from services.gateway.rag.ingest.chunking import OVERLAP_TOKENS, Chunk
from services.gateway.rag.ingest.parsers import markdown, plain
from services.gateway.rag.ingest.parsers.extract import Block, Extract

LIMIT = 100
ROOM = LIMIT - chunking.SPECIAL_TOKENS


class WordTokenizer:
    """Tokenizes into words and punctuation marks. Its model reads a hundred tokens."""

    async def token_starts(self, texts: Sequence[str]) -> list[Sequence[int]]:
        return [[match.start() for match in re.finditer(r"\w+|[^\w\s]", text)] for text in texts]

    async def text_model(self) -> TextModel:
        return TextModel("digest", 4, LIMIT)


async def split(extract: Extract, title: str = "") -> list[Chunk]:
    return await chunking.split(extract, title, WordTokenizer())


def tokens(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def sentence(number: int, words: int = 10) -> str:
    return "This " + " ".join(f"w{number}x{n}" for n in range(words - 2)) + "."


async def test_chunks_keep_to_the_limit_and_repeat_the_end_of_the_one_before() -> None:
    text = " ".join(sentence(number) for number in range(60))
    found = await split(plain.parse(text.encode()))
    assert len(found) > 5
    for chunk in found:
        assert tokens(chunk.embedded_text(plain.parse(text.encode()))) <= ROOM
    for one, other in pairwise(found):
        assert one.span.start < other.span.start < one.span.end < other.span.end
        assert 0 < tokens(text[other.span.start : one.span.end]) <= OVERLAP_TOKENS


async def test_a_chunk_is_indexed_with_its_neighbours_of_the_same_section() -> None:
    long = " ".join(sentence(number) for number in range(30))
    text = f"# A\n\n{long}\n\n# B\n\nThe end."
    extract = markdown.parse(text.encode())
    *of_a, of_b = await split(extract, "Book")
    assert len(of_a) > 3
    for before, one, after in zip(of_a, of_a[1:], of_a[2:], strict=False):
        assert one.context.of(text) == text[before.span.start : after.span.end]
    assert (of_a[0].context.start, of_a[-1].context.end) == (of_a[0].span.start, of_a[-1].span.end)
    assert of_b.indexed_text(extract) == of_b.embedded_text(extract) == "Book › B\n# B\n\nThe end."
    for one in (*of_a, of_b):
        own = one.span.of(text)
        assert one.indexed_text(extract)[one.offset() :].startswith(own)


async def test_sections_are_not_mixed_and_lead_their_chunks() -> None:
    extract = markdown.parse(b"# A\n\nOne.\n\n## B\n\nTwo.\n\n# C\n\nThree.")
    found = await split(extract, "Book")
    assert [chunk.embedded_text(extract) for chunk in found] == [
        "Book › A\n# A\n\nOne.",
        "Book › A › B\n## B\n\nTwo.",
        "Book › C\n# C\n\nThree.",
    ]
    assert [chunk.gap for chunk in found] == ["\n\n", "\n\n", None]


async def test_a_title_is_not_repeated_by_its_section() -> None:
    extract = markdown.parse(b"# A\n\n## B\n\nTwo.")
    assert [chunk.lead for chunk in await split(extract, "A")] == ["A", "A › B"]


async def test_short_code_stays_whole_and_long_code_is_cut_at_lines() -> None:
    code = "\n".join(f"line{number} = {number}" for number in range(60))
    extract = markdown.parse(f"```\n{code}\n```".encode())
    found = await split(extract)
    assert len(found) > 1
    for chunk in found:
        assert extract.text[chunk.span.start - 1 : chunk.span.start] in ("", "\n")


async def test_a_sentence_over_the_limit_is_cut_between_tokens() -> None:
    text = "x " * 1000
    extract = Extract(text, [Block(0, len(text) - 1)])
    found = await split(extract)
    assert all(0 < tokens(chunk.embedded_text(extract)) <= ROOM for chunk in found)


@settings(deadline=None)
@given(st.text(alphabet="ab .\n?!#é🐈`|-", max_size=900))
async def test_all_blocks_are_covered(text: str) -> None:
    extract = markdown.parse(text.encode())
    found = await split(extract, "Title")
    covered = {place for one in found for place in range(one.span.start, one.span.end)}
    for block in extract.blocks:
        for place in range(block.start, block.end):
            assert place in covered or extract.text[place].isspace()
    assert [chunk.number for chunk in found] == list(range(len(found)))
