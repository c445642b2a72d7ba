import pytest

from services.gateway.rag.grounding.numbers import Number, numbers


def only(text: str) -> Number:
    [number] = numbers(text)
    return number


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5 percent", "5%"),
        ("5 per cent", "5 %"),
        ("1,234 people", "1234"),
        ("10 000 euros", "€10,000"),
        ("two mice", "2 mice"),
        ("twenty-one", "21"),
        ("1.5 million", "1,500,000"),
        ("two hundred", "200"),
        ("$180", "180 dollars"),
        ("0,5", "0.5"),
        ("1.234,5", "1,234.5"),
        ("the 3rd", "three"),
        ("12.50", "12.5"),
        ("7 mg", "7"),
        ("about 37 %", "36.8 %"),
    ],
)
def test_numbers_agree_however_they_are_written(one: str, other: str) -> None:
    assert only(one).agrees(only(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5 %", "7 %"),
        ("5 mg", "5 kg"),
        ("5 million", "5,000"),
        ("1,234", "12,34"),
        ("$5", "€5"),
        ("37 %", "36.8 %"),
        ("about 50 %", "36.8 %"),
    ],
)
def test_other_numbers_and_units_do_not_agree(one: str, other: str) -> None:
    assert not only(one).agrees(only(other))


@pytest.mark.parametrize("text", ["IL-6", "p53 and B12", "TNF-2a", "no number", ""])
def test_digits_within_names_are_no_numbers(text: str) -> None:
    assert numbers(text) == []


def test_a_number_knows_how_it_is_written() -> None:
    assert [(one.text, one.unit) for one in numbers("It takes 1.5 million years and $20.")] == [
        ("1.5 million", "year"),
        ("$20", "$"),
    ]


def test_long_runs_of_digits_take_linear_time() -> None:
    assert len(numbers("1 " * 5000)) == 5000
    assert len(numbers("1" * 5000)) == 1
    assert numbers("1," * 5000)
