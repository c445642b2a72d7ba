import pytest

from services.gateway.rag.ingest.parsers import front_matter


def test_toml_gives_title_and_fields() -> None:
    front = front_matter.read('+++\ntitle = "Fees"\ndate = 2020-01-02\ntags = ["a"]\n+++\nText.\n')
    assert (front.title, front.is_text) == ("Fees", False)
    assert front.fields == {"date": 1577923200.0, "tags": ["a"]}
    assert front.end == len('+++\ntitle = "Fees"\ndate = 2020-01-02\ntags = ["a"]\n+++\n')


@pytest.mark.parametrize(
    "inner",
    [
        "The gate opens at nine.\n",
        "Opening hours: nine to five.\n",
        "Note: the gate\nopens at nine.\n",
        "- one\n- two\n",
        "\n",
        "",
        ": [\n",
    ],
)
def test_prose_between_lines_of_hyphens_is_prose(inner: str) -> None:
    front = front_matter.read(f"---\n{inner}---\nMore.\n")
    assert front.is_prose
    assert front.inner == (4, 4 + len(inner))
    assert (front.title, front.fields) == ("", {})


@pytest.mark.parametrize(
    "inner", ["Note: the gate opens at nine.\n", "author: {name: nobody}\n", "year: 1\nx-y: 2\n"]
)
def test_metadata_that_the_fields_do_not_hold_is_also_text(inner: str) -> None:
    front = front_matter.read(f"---\n{inner}---\nMore.\n")
    assert (front.is_text, front.is_prose) == (True, False)


def test_nothing_is_lost_of_what_is_empty() -> None:
    front = front_matter.read("---\ntitle: A\nsummary:\n---\nMore.\n")
    assert (front.title, front.is_text) == ("A", False)
    assert "'summary' was ignored" in front.warnings[0]


@pytest.mark.parametrize("text", ["", "Text.", "--- a\n---\n", "+++\na = 1\n...\n", "---\na: 1\n"])
def test_other_texts_have_no_front_matter(text: str) -> None:
    assert front_matter.read(text) == front_matter.FrontMatter()
