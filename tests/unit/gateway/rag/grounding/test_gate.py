from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.rag.grounding.gate import MAX_HELD, SentenceGate

TEXT = "It swims. [1] It waits [2].\n\n1. The fox runs [1]! Nobody knows"


def gated(pieces: list[str]) -> list[str]:
    gate = SentenceGate()
    return [one for piece in pieces for one in gate.feed(piece)] + gate.flush()


def test_sentences_come_with_their_marks_and_what_is_in_front() -> None:
    assert gated([TEXT]) == [
        "It swims. [1]",
        " It waits [2].",
        "\n\n1. The fox runs [1]!",
        " Nobody knows",
    ]


def test_a_sentence_is_held_until_the_next_begins() -> None:
    gate = SentenceGate()
    assert gate.feed("It swims. [1] ") == []
    assert gate.feed("I") == ["It swims. [1]"]
    assert gate.flush() == [" I"]


@given(st.text(alphabet="aB. [1]\n!", max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_nothing_is_lost_however_the_text_arrives(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    assert "".join(gated([text[a:b] for a, b in pairwise(places)])) == text


def test_endless_sentences_are_passed_on_in_parts() -> None:
    gate = SentenceGate()
    assert gate.feed("a" * MAX_HELD) == ["a" * MAX_HELD]
    assert gate.flush() == []
