import pytest

from services.gateway.rag.grounding.checks import PassageText, check
from services.gateway.rag.grounding.sentence import Sentence

HOTEL = PassageText(
    [
        Sentence("Travel policy"),
        Sentence("A hotel in a capital may cost up to 180 euros a night."),
        Sentence("Elsewhere, the limit is 120 euros, as the World Health Organization advises."),
        Sentence("Meals in Paris are not refunded."),
        Sentence("The office closes at 6 pm, and the United Airlines desk in Berlin has a lounge."),
    ]
)
TRAINS = PassageText(
    [
        Sentence("Trains to Lyon leave every hour."),
        Sentence("Book first class for trips over four hours."),
    ]
)


def finding(
    text: str, cited: PassageText = HOTEL, other: PassageText = TRAINS
) -> tuple[str, str] | None:
    found = check(Sentence.of_answer(text), HOTEL, [TRAINS])
    return (found.reason, found.detail) if found else None


@pytest.mark.parametrize(
    "text",
    [
        "A hotel in a capital may cost up to 180 euros a night [1].",
        "Hotels in capitals may cost 180 EUR per night [1].",
        "According to the WHO, the limit elsewhere is 120 euros [1].",
        "Meals in Paris aren't refunded.",
        "meals in paris are not refunded",
        "Yes [1].",
        "- **Hotel**: up to €180 in a capital",
        "In a capital, a hotel may cost up to 180 euros, and meals in Paris are not refunded.",
    ],
)
def test_faithful_sentences_are_supported(text: str) -> None:
    assert finding(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A hotel in a capital may cost up to 190 euros a night.", ("number", "190")),
        ("A hotel in a capital may cost up to 180 dollars a night.", ("number", "180")),
        ("A hotel in a capital may cost up to 120 euros a night.", ("number", "120")),
        ("Meals in Madrid are not refunded.", ("name", "Madrid")),
        ("Meals in Berlin are not refunded.", ("name", "Berlin")),
        ("Meals in Paris are refunded.", ("negation", "refund")),
        ("A hotel in a capital may not cost up to 180 euros a night.", ("negation", "cost")),
        ("The office opens at 6 pm.", ("negation", "the opposite")),
        ("Penguins breed on southern islands in winter.", ("not_found", "")),
        ("Trains to Lyon leave every hour.", ("not_found", "")),
    ],
)
def test_misquotes_are_found(text: str, expected: tuple[str, str]) -> None:
    assert finding(text) == expected


def test_a_sentence_may_rest_on_several_passages() -> None:
    both = Sentence("A hotel in a capital may cost 180 euros, and trains to Lyon leave every hour.")
    assert check(both, PassageText([*HOTEL.sentences, *TRAINS.sentences]), []) is None


def test_of_other_languages_numbers_and_identifiers_are_checked() -> None:
    assert finding("Ein Hotel in einer Hauptstadt darf nicht mehr als 180 Euro kosten.") is None
    assert finding("Ein Hotel in einer Hauptstadt darf nicht mehr als 190 Euro kosten.") == (
        "number",
        "190",
    )
    assert finding("ホテルは180ユーロまでです。") is None


def test_what_is_found_by_meaning_is_checked_all_the_same() -> None:
    def by_meaning(text: str) -> str | None:
        found = check(Sentence(text), HOTEL, [], is_found=True)
        return found.reason if found else None

    assert by_meaning("Lodgings downtown must stay below 180 euros.") is None
    assert by_meaning("Lodgings downtown must stay below 170 euros.") == "number"
