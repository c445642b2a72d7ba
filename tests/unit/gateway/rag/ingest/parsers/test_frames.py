import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.rag.ingest.parsers import frames
from services.gateway.rag.ingest.parsers.extract import Block, Extract, ParseError
from services.gateway.rag.ingest.parsers.frames import ExtractReader, extract_frames

BLOCKS = st.lists(
    st.builds(
        Block,
        start=st.integers(0, 2**25),
        end=st.integers(0, 2**25),
        by_lines=st.booleans(),
        section=st.sampled_from(["", "A", "A › é"]),
        page=st.integers(0, 9),
    )
)


def split(data: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    for one in data:
        kind, length = frames.HEADER.unpack(one[: frames.HEADER.size])
        assert length == len(one) - frames.HEADER.size <= frames.MAX_FRAME_BYTES
        yield kind, one[frames.HEADER.size :]


def read(extract: Extract) -> Extract | None:
    reader = ExtractReader()
    results = [reader.read(*one) for one in split(extract_frames(extract))]
    assert not any(results[:-1])
    return results[-1]


@given(st.text(), BLOCKS, st.text(), st.dictionaries(st.text(), st.floats(allow_nan=False)))
def test_an_extract_comes_back(
    text: str, blocks: list[Block], title: str, fields: dict[str, float]
) -> None:
    extract = Extract(text, blocks, title, {**fields}, ["warning"])
    assert read(extract) == extract


def test_an_extract_of_many_frames_comes_back() -> None:
    extract = Extract("é🐈" * 10**5, [Block(n, n + 1, section=str(n)) for n in range(5000)])
    assert read(extract) == extract


def test_unpaired_surrogates_are_replaced_and_keep_the_offsets() -> None:
    assert read(Extract("a\ud83db", [], "t\ude00")) == Extract("a?b", [], "t?")


def test_a_failure_is_raised() -> None:
    [(kind, payload)] = split(iter([frames.failure_frame(ParseError("R", "Why."))]))
    with pytest.raises(ParseError) as caught:
        ExtractReader().read(kind, payload)
    assert (caught.value.reason, caught.value.message) == ("R", "Why.")


def test_the_text_and_the_headings_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_TEXT_BYTES", 10)
    monkeypatch.setattr(frames, "MAX_SECTION_CHARACTERS", 10)
    for extract, reason in (
        (Extract("é" * 6, []), "TOO_LARGE"),
        (Extract("", [Block(0, 1, section="x" * 11)]), "DOCUMENT_TOO_COMPLEX"),
    ):
        with pytest.raises(ParseError) as caught:
            list(extract_frames(extract))
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (frames.TEXT, b"x" * 11),
        (frames.SECTIONS, json.dumps(["x" * 11]).encode()),
        (frames.BLOCKS, bytes(20) * 3),
        (frames.BLOCKS, bytes(3)),
        (frames.TEXT, b"\xff"),
        (frames.END, b"{"),
    ],
)
def test_a_process_cannot_send_more_than_allowed_or_nonsense(
    monkeypatch: pytest.MonkeyPatch, kind: int, payload: bytes
) -> None:
    monkeypatch.setattr(frames, "MAX_TEXT_BYTES", 10)
    monkeypatch.setattr(frames, "MAX_SECTION_CHARACTERS", 10)
    monkeypatch.setattr(frames, "MAX_BLOCKS", 2)
    reader = ExtractReader()
    reader.read(frames.SECTIONS, b'[""]')
    with pytest.raises(ValueError, match=r"."):
        reader.read(kind, payload)
