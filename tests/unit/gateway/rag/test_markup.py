import pytest

from services.gateway.rag.markup import (
    cells,
    dedented,
    heading_key,
    is_code,
    is_delimiter_row,
    is_header,
    is_image,
    without_markup,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A **bold** and *soft* `code`", "A bold and soft code"),
        ('See [the guide](https://example.org/a_b "Guide") now', "See the guide now"),
        ("[![build](https://x/y.svg)](https://ci) ok", "ok"),
        ("a __b__ and snake_case_name, 2 * 3 * 4", "a b and snake_case_name, 2 * 3 * 4"),
        ("line<br>next <b>x</b> a < b", "linenext x a < b"),
        ("``a b`` \\*no\\*", "a b *no*"),
        ("two\n  lines", "two lines"),
        ("[text][1] and [0] stay", "text and [0] stay"),
    ],
)
def test_signs_of_markdown_are_left_out(text: str, shown: str) -> None:
    assert without_markup(text) == shown


def test_hostile_lines_are_read_in_time() -> None:
    for sign in ("[", "*", "_", "`", "![", "<b ", "~~", "[![", "\\"):
        without_markup(sign * 4000)
        is_image("![" + sign * 4000)
        is_delimiter_row("|" + sign * 4000)
        is_code([sign * 4000])
    is_delimiter_row("|" + "-|" * 4000 + "x")


def test_images_are_known() -> None:
    assert is_image("[![a](b.svg)](c) ![d](e.png)")
    assert not is_image("![a](b) text")
    assert not is_image("")


def test_headings_are_compared_without_signs_and_case() -> None:
    assert heading_key("The  `Big` *One*") == heading_key("the big one")


def test_rows_have_cells() -> None:
    assert cells("| `a` | **b** |") == ["a", "b"]
    assert cells("Pro | 30 EUR") == ["Pro", "30 EUR"]
    assert cells(r"| a \| b | c |") == ["a | b", "c"]
    assert is_delimiter_row("| --- | :-: |")
    assert not is_delimiter_row("| - a |")


def test_a_header_names_columns() -> None:
    assert is_header([["Plan", "Price"], ["Pro", "30 EUR"]])
    assert not is_header([["Pro", "30 EUR"], ["Basic", "10 EUR"]])
    assert not is_header([["Plan: Pro", "Price: x"], ["Plan: Basic", "Price: y"]])
    assert not is_header([["Plan"], ["Pro", "30 EUR"]])


def test_code_is_known_by_its_lines() -> None:
    assert is_code(["def f():", "    return 1"])
    assert is_code(["MAX = 3"])
    assert is_code(["if (x) {", "y();", "}"])
    assert not is_code(["from the sea to the hills.", "Return it to the desk."])
    assert not is_code(["Rates rose."])


def test_indentation_of_all_lines_is_left_out() -> None:
    assert dedented(["  a", "", "    b"]) == "a\n\n  b"
