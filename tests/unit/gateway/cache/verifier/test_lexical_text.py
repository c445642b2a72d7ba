import pytest

from services.gateway.cache.verifier.lexical_text import LexicalText, stem


def test_words_are_lower_case_without_apostrophes() -> None:
    assert LexicalText("Why can't I go?").words == ["why", "cant", "i", "go"]


@pytest.mark.parametrize(
    ("forms", "root"),
    [
        (("open", "opens", "opened", "opening"), "open"),
        (("city", "cities"), "cit"),
        (("is", "as", "ed"), ""),
    ],
)
def test_common_endings_are_removed(forms: tuple[str, ...], root: str) -> None:
    if root:
        assert {stem(form) for form in forms} == {root}
    else:
        assert [stem(form) for form in forms] == list(forms)  # too short to cut


def test_content_is_what_is_left_without_stop_words() -> None:
    assert LexicalText("How do I reset my passwords?").content == ["reset", "password"]
    assert LexicalText("turn it on").same_content(LexicalText("On it turns!"))
    assert not LexicalText("turn it on").same_content(LexicalText("turn it off"))


def test_numbers_are_digits_and_numerals() -> None:
    assert LexicalText("1,000 towns, two cats and one dog").numbers == {"1000", "2"}


@pytest.mark.parametrize(("text", "count"), [("I can't not go", 2), ("I can go", 0)])
def test_negations_are_counted(text: str, count: int) -> None:
    assert LexicalText(text).negations == count
    assert LexicalText(text).is_negated is (count > 0)


@pytest.mark.parametrize(
    ("text", "word"),
    [("Tell me how it works", "how"), ("Are they open?", "is"), ("Could I?", "can"), ("Hm", "")],
)
def test_the_first_question_word(text: str, word: str) -> None:
    assert LexicalText(text).question_word == word


def test_names_units_and_identifiers() -> None:
    text = LexicalText("Is Paris 5 km away? Set --max-cost in config.yaml, maxCost or GPT4")
    assert {"pari", "set"} <= text.names
    assert "is" not in text.names
    assert text.units == {"km"}
    assert {"--max-cost", "config.yaml", "maxCost", "GPT4"} <= text.identifiers


def test_runs_of_characters_and_of_words() -> None:
    text = LexicalText("Reset router")
    assert {" re", "et ", "er "} <= text.trigrams
    assert text.bigrams == {("reset", "router")}
    assert LexicalText("").bigrams == frozenset()


def test_identifiers_in_long_runs_are_left_out() -> None:
    assert LexicalText("snake_case " + "a" * 30_000).identifiers == {"snake_case"}


def test_marks_stay_with_their_letters_and_invisible_characters_vanish() -> None:
    assert LexicalText("हिन्दी में").words == ["हिन्दी", "में"]
    assert LexicalText("Mu\u0308ller so\u00adft \u200fa").words == ["müller", "soft", "a"]
    assert LexicalText("call Mu\u0308ller").names == {"müller"}
