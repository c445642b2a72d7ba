import pytest

from services.gateway.rag.grounding.sentence import Sentence, initials


def test_marks_and_markdown_are_no_words() -> None:
    sentence = Sentence.of_answer("2. **The otter** swims [1][2].")
    assert sentence.words == ["the", "otter", "swims"]
    assert sentence.numbers == []
    assert Sentence.of_answer("`JTK_CYCLE` is *new* [1].").text == "JTK_CYCLE is new."


def test_names_have_capitals_or_digits() -> None:
    assert Sentence("Some cells express IL-6 near the Rhine, says iFixit.").names == [
        "IL-6",
        "Rhine",
        "iFixit",
    ]
    assert Sentence("TNF is there.").names == ["TNF"]


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("It does not bind the receptor.", {"bind"}),
        ("It failed to bind.", {"bind"}),
        ("Not only otters swim.", set()),
        ("It swims.", set()),
    ],
)
def test_a_negation_negates_the_next_word(text: str, negated: set[str]) -> None:
    assert Sentence(text).negated == negated


def test_more_words_may_be_negated() -> None:
    assert Sentence("No significant effect was seen.").widely_negated >= {"significant", "effect"}


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("The otter swims in the river.", True),
        ("Vitamin deficiency increases homocysteine.", True),
        ("Der Otter schwimmt nicht in dem Fluss und die Reiher warten.", False),
        ("カワウソは川で泳ぎます。", False),
    ],
)
def test_english_is_recognised(text: str, english: bool) -> None:
    assert Sentence(text).is_english is english


def test_initials_are_those_of_neighbouring_capitals() -> None:
    assert {"who", "wh", "ho"} == set(initials(["The".lower(), "World", "Health", "Organization"]))


def test_marks_stay_with_their_letters() -> None:
    assert Sentence("हिन्दी में").tokens == ["हिन्दी", "में"]
