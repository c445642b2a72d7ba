from typing import Any

import numpy as np
import pytest

from services.gateway.backends.types import TextReading, Vectors
from services.gateway.cache.types import READING, Context, Entry, Request, Scope
from services.gateway.cache.unread import agree, agreeing, reading_detail, unread_text
from tests.fakes.backends import FakeEmbedder

HISTORY = [("user", "Hi 猫"), ("assistant", "Hello.")]


def request(prompt: str, history: Any = ()) -> Request:
    return Request(Scope("t"), Context(history=list(history)), prompt)


def read_as(reading: TextReading) -> Vectors:
    return Vectors(np.ones((1, 4), np.float32), "m", "digest", (reading,))


def unread_of(one: Request, reading: TextReading) -> Any:
    detail = reading_detail(one.prompt, one.embedding_text, read_as(reading))
    assert detail[READING]["digest"] == "digest"
    return detail[READING]["unread"]


def entry(prompt: str, unread: list[int] | None) -> Entry:
    detail = {} if unread is None else {READING: {"digest": "digest", "unread": unread}}
    return Entry(
        prompt, prompt, "An answer.", Scope("t"), "f", {}, 0, 0, detail=detail, digest="digest"
    )


def test_spans_are_those_of_the_prompt_without_the_messages_before_it() -> None:
    reading = TextReading(True, False, ((3, 4), (7, 9)))
    assert unread_of(request("is 猫狗"), reading) == [3, 4, 7, 9]
    in_conversation = request("is 猫狗", HISTORY)
    assert in_conversation.embedding_text == "Hi 猫\nis 猫狗"
    later = TextReading(True, True, ((3, 4), (8, 10), (4, 12)))
    assert unread_of(in_conversation, later) == [3, 5, 0, 7]


def test_the_reading_of_a_callers_vector_is_not_known() -> None:
    assert reading_detail("p", "p", Vectors(np.ones((1, 4), np.float32), "", "digest")) == {}


def test_unread_text_ignores_case_spacing_and_final_punctuation() -> None:
    one = unread_text("Say  Включить?  now Then the REST of it.", [5, 14, 20, 40])
    assert one == "включить then the rest of it"
    assert unread_text("Say включить! And then  the rest of it", [4, 13, 18, 38]) == one
    assert unread_text("x", []) == ""
    assert unread_text("1.5 kg", [0, 6]) != unread_text("15 kg", [0, 5])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "", True),
        ("打开", "打开", True),
        ("打开", "关闭", False),
        ("打开", "", False),
        ("", "tail", False),
        ("👍", "", True),
        ("", "🙏 🎉", True),
        ("👍", "👎", False),
        ("👍 打开", "", False),
    ],
)
def test_unread_texts_agree_if_they_are_equal_or_one_is_decoration(
    one: str, other: str, expected: bool
) -> None:
    assert agree(one, other) is expected


async def test_entries_agree_by_what_was_stored_with_them() -> None:
    embedder = FakeEmbedder()
    embedder.readings["Say 打开 now"] = TextReading(True, False, ((4, 6),))
    vectors = await embedder.embed_queries(["Say 打开 now"])
    same, other = entry("Now say 打开", [8, 10]), entry("Say 关闭 now", [4, 6])
    found = await agreeing(request("Say 打开 now"), vectors, [other, same], embedder)
    assert found == [same]


async def test_entries_of_earlier_versions_are_read_again() -> None:
    embedder, texts = FakeEmbedder(), ["Say 打开 now", "Say 关闭 now", "Say 打开"]
    for text in texts:
        embedder.readings[text] = TextReading(True, False, ((4, 6),))
    vectors = await embedder.embed_queries(texts[:1])
    entries = [entry(text, None) for text in texts[1:]]
    assert await agreeing(request(texts[0]), vectors, entries, embedder) == entries[1:]


async def test_short_entries_in_ascii_are_not_read_again() -> None:
    embedder = FakeEmbedder()
    vectors = await embedder.embed_queries(["Say it now"])
    entries = [entry("Say it", None)]
    embedder.readings["Say it"] = TextReading(True, False, ((0, 3),))
    assert await agreeing(request("Say it now"), vectors, entries, embedder) == entries


async def test_without_readings_all_entries_agree() -> None:
    embedder = FakeEmbedder()
    entries = [entry("猫", [0, 1]), entry("狗", None)]
    assert await agreeing(request(""), None, entries, embedder) == entries
