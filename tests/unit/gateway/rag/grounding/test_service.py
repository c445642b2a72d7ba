import pytest

from services.gateway.rag.grounding.service import (
    MAX_BY_MEANING,
    MAX_CHARACTERS,
    GroundedAnswer,
    Grounding,
)
from services.gateway.rag.types import GroundingMode
from tests.fakes.passages import passage
from tests.fakes.support import FakeSupport

PASSAGES = [
    passage("The otter swims in the river every morning.", "a", title="Otters"),
    passage("The heron waits for 3 hours.", "b", section="Birds › Herons"),
]
MEANT = "Aquatic mammals bathe at dawn."


def begin(mode: GroundingMode, *meant: str) -> tuple[GroundedAnswer, FakeSupport]:
    support = FakeSupport(*meant)
    return Grounding(support).begin(PASSAGES, mode), support


async def unsupported(text: str, *meant: str) -> list[tuple[str, str]]:
    answer, _ = begin("mark", *meant)
    assert await answer.feed(text) + await answer.flush() == text
    _, found = await answer.cite(text)
    return [(one.of(text), one.reason) for one in found]


async def test_each_sentence_is_checked_against_what_it_cites() -> None:
    assert (
        await unsupported("The otter swims in the river [1]. The heron waits for 3 hours [2].")
        == []
    )
    assert await unsupported(
        "The otter swims in the river [2]. The heron waits for 5 hours [2]."
    ) == [
        ("The otter swims in the river [2].", "not_found"),
        ("The heron waits for 5 hours [2].", "number"),
    ]
    assert await unsupported("Herons are birds [2]. Nobody knows.") == [
        ("Nobody knows.", "no_citation")
    ]


async def test_other_words_with_the_same_meaning_are_supported() -> None:
    assert await unsupported(f"{MEANT[:-1]} [1].", MEANT) == []
    assert await unsupported(f"{MEANT[:-1]} [1].") == [(f"{MEANT[:-1]} [1].", "not_found")]


async def test_the_support_is_asked_about_the_likeliest_sentences_first_and_not_too_often() -> None:
    answer, support = begin("mark")
    text = " ".join(f"Quick foxes number {n} jump over lazy otter dogs [1]." for n in range(99))
    await answer.cite(text)
    assert len(support.asked) == MAX_BY_MEANING
    assert support.asked[0][1][0].lower().startswith(("otters", "the otter"))


async def test_dropped_sentences_are_not_sent() -> None:
    answer, _ = begin("drop")
    sent = [
        await answer.feed(piece) for piece in ("The otter swims in the", " river [1]. The heron ")
    ]
    assert sent == ["", "The otter swims in the river [1]."]
    assert await answer.feed("waits for 9 hours [2]. The heron waits.") == ""
    assert await answer.flush() == " The heron waits."
    assert answer.withheld == 1


async def test_a_sentence_without_a_citation_may_rest_on_any_passage() -> None:
    answer, _ = begin("drop")
    text = "The heron waits for 3 hours. The passages do not answer the question."
    assert await answer.feed(text) + await answer.flush() == "The heron waits for 3 hours."


async def test_nothing_is_checked_on_request() -> None:
    answer, _ = begin("off")
    text = "The otter flies 9 miles [1]. Nobody knows."
    assert await answer.feed(text) == text
    citations, found = await answer.cite(text)
    assert [one.supported for one in citations] == [None]
    assert [one.of(text) for one in found] == ["Nobody knows."]


@pytest.mark.parametrize("mode", ["mark", "drop"])
async def test_long_sentences_are_checked_in_part(mode: GroundingMode) -> None:
    answer, _ = begin(mode)
    text = f"The otter swims in the river{' otter' * MAX_CHARACTERS} 99 [1]."
    assert await answer.feed(text) + await answer.flush() == text
