import asyncio
import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.backends.types import TextModel
from services.gateway.rag.ingest import chunking
from services.gateway.rag.ingest.chunking import OVERLAP_TOKENS, Chunk
from services.gateway.rag.ingest.file_signatures import DOCX, EPUB, PDF, PPTX, XLSX
from services.gateway.rag.ingest.parsers import files, markdown, plain
from services.gateway.rag.ingest.parsers.extract import Block, Extract, ParseError
from tests import office_files
from tests.operations import count_calls
from tests.pdf import pdf

LIMIT = 100
ROOM = LIMIT - chunking.SPECIAL_TOKENS


class WordTokenizer:
    """Tokenizes into words and punctuation marks. Its model reads a hundred tokens."""

    def __init__(self, prompt: str = "") -> None:
        self.prompt = prompt
        self.texts: list[str] = []
        self.call_sizes: list[int] = []

    async def token_starts(self, texts: Sequence[str]) -> list[Sequence[int]]:
        self.texts += texts
        self.call_sizes.append(sum(map(len, texts)))
        return [[match.start() for match in re.finditer(r"\w+|[^\w\s]", text)] for text in texts]

    async def text_model(self) -> TextModel:
        return TextModel("digest", 4, LIMIT, self.prompt)

    async def chunk_tokens(self) -> int:
        return LIMIT


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


async def test_the_prompt_of_documents_counts_as_part_of_a_chunk() -> None:
    extract = plain.parse(" ".join(sentence(number, 5) for number in range(200)).encode())
    plainly = await chunking.split(extract, "Title", WordTokenizer())
    prompted = await chunking.split(extract, "Title", WordTokenizer("search document: "))
    longest = [
        max(tokens(one.embedded_text(extract)) for one in found) for found in (plainly, prompted)
    ]
    assert longest[1] + 3 <= ROOM < longest[0] + 3


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


async def test_a_long_block_is_tokenized_in_parts_and_cut_at_lines() -> None:
    """A table of megabytes without a blank line, such as a CSV file."""
    rows = [f"{number},{number},{number}" for number in range(20_000)]
    extract = plain.parse("\n".join(rows).encode())
    tokenizer = WordTokenizer()
    found = await chunking.split(extract, "", tokenizer)
    assert max(map(len, tokenizer.texts)) <= chunking.MAX_PART_CHARACTERS
    assert max(tokenizer.call_sizes) <= 2**16 + chunking.MAX_PART_CHARACTERS
    for chunk in found:
        assert set(chunk.span.of(extract.text).split("\n")) <= set(rows)
        assert tokens(chunk.span.of(extract.text)) <= ROOM


async def test_a_long_paragraph_is_cut_after_sentences() -> None:
    text = " ".join(sentence(number) for number in range(400))
    extract = Extract(text, [Block(0, len(text))])
    for chunk in await split(extract):
        assert chunk.span.of(text).startswith("This ")
        assert chunk.span.of(text).endswith(".")


@pytest.mark.parametrize("text", ["x" * 50_000, "\u200b" * 50_000, "\u200b\n\n" * 5_000 + "x"])
async def test_text_of_few_tokens_makes_no_long_chunks(text: str) -> None:
    """A tokenizer may read a long word as one token, and some characters as none."""
    extract = plain.parse(text.encode())
    found = await split(extract)
    assert len(found) > 5
    limit = ROOM * chunking.MAX_TOKEN_CHARACTERS
    assert max(len(chunk.embedded_text(extract)) for chunk in found) <= limit
    covered = {place for one in found for place in range(one.span.start, one.span.end)}
    assert all(text[place].isspace() for place in set(range(len(text))) - covered)


async def test_a_wide_gap_is_not_kept() -> None:
    text = "# A\n\nOne.\n\n# B" + "\n" * 1000 + "# C\n"
    found = await split(markdown.parse(text.encode()))
    assert [chunk.gap for chunk in found] == ["\n\n", None, None]


@pytest.mark.parametrize(
    "unit", ["J. ", "a\n", "# A\n\n", "\u200b\n\n", "a,b\n\n", "- a\n", "Word one. ", "x"]
)
def test_the_work_grows_with_the_length(unit: str) -> None:
    def work(count: int) -> int:
        extract = markdown.parse((unit * count).encode())
        return count_calls(lambda: asyncio.run(split(extract, "Title")))

    small = work(5_000)
    assert work(20_000) <= 4.5 * small


async def test_other_tasks_run_meanwhile() -> None:
    extract = plain.parse(b"One sentence. \n\n" * 5_000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    chunks = await split(extract)
    counting.cancel()
    assert turns > len(extract.blocks) / 64
    assert turns > len(chunks) / 128


PIECES = [
    *("# H\n", "One. Two.\n", "\n", "- a\n", "    code\n", "```\n", "| a | b |\n", "|---|---|\n"),
    *("---\n", "+++\n", "===\n", "[r]: /u\n", "> q\n", "<!--\n", "<p>", "<td>", "</td>", "<br>"),
    *("\r", "\f", "\v", "\x1c", "\x85", "\u2028", "\u2029", "\u00a0", "\u200b", "\u3000", "\0"),
    *("a: b\n", "é🐈", "。！", "?!# 5", "JN. ", "x" * 90, "word " * 40, "a,b\n", '"', "{", "]"),
]


_INVISIBLE_IN_XML = re.compile("[^\\S\\n]|[\\x00-\\x08\\x0e-\\x1f]")


def written(media_type: str, pieces: list[str]) -> bytes:
    """Return a document of a type that contains pieces of text."""
    safe = [_INVISIBLE_IN_XML.sub(" ", one) for one in pieces]
    pages = [[one.encode("cp1252", "ignore").decode("cp1252") for one in safe]]
    writers: dict[str, Callable[[], bytes]] = {
        DOCX: lambda: office_files.word([("", one) for one in safe], [safe or [""]]),
        PPTX: lambda: office_files.slides([(one, safe) for one in safe[:3]]),
        XLSX: lambda: office_files.workbook({"One": [safe[:5], *([one] for one in safe)]}),
        EPUB: lambda: office_files.epub("Title", ["".join(pieces), *pieces[:3]]),
        PDF: lambda: pdf(pages * (1 + len(pieces) % 3)),
    }
    if media_type.endswith("json") and len(pieces) % 2:
        return json.dumps([{one: pieces} for one in pieces], ensure_ascii=False).encode()
    return writers.get(media_type, lambda: "".join(pieces).encode())()


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(PIECES), max_size=60),
    st.sampled_from(sorted(files.PARSERS)),
)
async def test_every_visible_character_lies_in_a_chunk_in_order(
    pieces: list[str], media_type: str
) -> None:
    reason = ""
    try:
        extract = files.parse(media_type, written(media_type, pieces))
    except ParseError as error:
        extract, reason = Extract("", []), error.reason
    assert reason in ("", "EMPTY_DOCUMENT")
    found = await split(extract, "Title")
    start, seen = 0, list[int]()
    for chunk in found:
        assert chunk.span.end > start
        seen += range(max(start, chunk.span.start), chunk.span.end)
        start = chunk.span.end
    assert seen == sorted(set(seen))
    is_front_matter = extract.fields or extract.title == "b"
    lost = {place for place, one in enumerate(extract.text) if not one.isspace()} - set(seen)
    assert not lost or (media_type == "text/markdown" and is_front_matter)
    assert [chunk.number for chunk in found] == list(range(len(found)))
