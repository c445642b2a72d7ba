from services.gateway.rag.units import MAX_CODE_CHARACTERS, Unit, units

README = """# Tool

[![build](https://x/y.svg)](https://ci)

Tool is a **tiny** server. It needs *no* settings.

## Settings

| setting | default |
|---|---|
| `PORT` | `8080` |
| `TTL` | 60 |

## Start

Run it with:

```sh
tool serve \\
  --port 8080
```

Options:

- `--gzip` compresses
  replies
1. first
"""


def read(text: str, title: str = "", section: str = "") -> list[Unit]:
    found = units(text, title, section)
    for one in found:
        assert one.span.of(text).strip()
    return found


def texts(text: str, title: str = "", section: str = "") -> list[str]:
    return [one.whole_text for one in read(text, title, section) if not one.is_title]


def test_markdown_is_read_into_sentences_rows_code_and_items() -> None:
    assert texts(README, "Tool") == [
        "Tool is a tiny server.",
        "It needs no settings.",
        "setting | default\nPORT | 8080",
        "setting | default\nTTL | 60",
        "tool serve \\\n  --port 8080",
        "--gzip compresses replies",
        "first",
    ]


def test_units_know_what_introduces_them() -> None:
    contexts = {one.text: one.context for one in read(README, "Tool")}
    assert contexts["PORT | 8080"] == "Settings"
    assert contexts["tool serve \\\n  --port 8080"] == "Start: Run it with:"
    assert contexts["first"] == "Start: Options:"
    [one] = read("Nine o'clock.", "Hall", "Hall › Opening hours")
    assert one.context == "Opening hours"
    assert one.embedded_text("Hall") == "Hall: Opening hours: Nine o'clock."


def test_spans_are_places_in_the_passage() -> None:
    spans = {one.text: one.span.of(README) for one in read(README)}
    assert spans["PORT | 8080"] == "| `PORT` | `8080` |"
    assert spans["--gzip compresses replies"] == "`--gzip` compresses\n  replies"
    assert spans["It needs no settings."] == "It needs *no* settings."
    assert spans["tool serve \\\n  --port 8080"] == "tool serve \\\n  --port 8080"


def test_headings_of_pages_are_known_by_their_section() -> None:
    page = "Fees\n\nThe fee is 12 euros.\n\nPlan | Price\nPro | 30 EUR"
    assert texts(page, "Town", "Town › Fees") == [
        "The fee is 12 euros.",
        "Plan | Price\nPro | 30 EUR",
    ]
    assert texts("Title\n=====\n\nText.") == ["Text."]


def test_a_short_line_before_text_may_be_a_title() -> None:
    first, second = read("Opening hours\n\nWe open at nine.")
    assert first.is_title
    assert not second.is_title
    assert second.context == "Opening hours"
    [only] = read("Opening hours")
    assert not only.is_title
    assert not read("Closed on 5 May\n\nText.")[0].is_title


def test_commands_without_signs_are_no_titles() -> None:
    page = "Install it with:\n\nPip install widget\n\nThen run it.\n\nmake up\n\nDone."
    assert texts(page) == ["Pip install widget", "Then run it.", "make up", "Done."]
    first, second, _ = read("City Library\n\nOpening hours\n\nWe open at nine.")
    assert first.is_title
    assert second.is_title


def test_questions_introduce_their_answers() -> None:
    found = read("Q: When do doors open?\nA: At nine.\nQ: Is it free?\nA: Yes.")
    assert [(one.context, one.text) for one in found] == [
        ("Q: When do doors open?", "A: At nine."),
        ("Q: Is it free?", "A: Yes."),
    ]
    first, second = read("When do doors open?\n\nThey open at nine.")
    assert first.is_title
    assert second.context == "When do doors open?"


def test_rows_without_a_header_stand_alone() -> None:
    assert texts("| a | 1 |\n| b | 2 |") == ["a | 1", "b | 2"]
    assert texts("Plan: Pro | Price: 30\nPlan: Basic | Price: 10") == [
        "Plan: Pro | Price: 30",
        "Plan: Basic | Price: 10",
    ]


def test_entries_without_signs_are_units() -> None:
    assert texts("Ingredients:\n250 g flour\n2 eggs\nhalf a litre of milk") == [
        "250 g flour",
        "2 eggs",
        "half a litre of milk",
    ]
    assert texts("present: Ana, Bo\nabsent: Dee") == ["present: Ana, Bo", "absent: Dee"]


def test_wrapped_sentences_stay_whole() -> None:
    text = "The ferry leaves the harbour at seven\nand comes back after sunset\nbehind the hills."
    assert texts(text) == [text]


def test_very_short_sentences_join_the_next() -> None:
    assert texts("No. Usernames are permanent. Ask us.") == [
        "No. Usernames are permanent.",
        "Ask us.",
    ]


def test_text_without_sentences_is_divided_at_lines() -> None:
    lines = [f"line {number} of a very long record that has no full stop" for number in range(20)]
    assert texts("\n".join(lines)) == lines
    assert texts("東京は日本の首都です。人口は多い。") == ["東京は日本の首都です。", "人口は多い。"]


def test_long_code_is_divided_and_short_code_is_not() -> None:
    short = "```\na = 1\n\nb = 2\n```"
    assert texts(short) == ["a = 1\n\nb = 2"]
    body = "\n\n".join(f"def f{number}():\n    return {number}" for number in range(80))
    found = texts(f"```python\n{body}\n```")
    assert len(found) > 1
    assert all(len(one) <= MAX_CODE_CHARACTERS for one in found)
    assert [line for one in found for line in one.split("\n") if line] == [
        line for line in body.split("\n") if line
    ]


def test_code_without_fences_keeps_its_lines() -> None:
    code = "MAX_REQUESTS = 120\nWINDOW = 60"
    [one] = read(code)
    assert (one.text, one.is_code) == (code, True)


def test_quoted_lines_and_rules() -> None:
    assert texts("> Said **she**.\n\n---\n\n***") == ["Said she."]
    assert texts("") == []
    assert texts("#") == []


def test_an_open_fence_ends_with_the_passage() -> None:
    assert texts("```\nmake up") == ["make up"]
    assert texts("| a |") == ["a"]


def test_hostile_passages_are_read_in_time() -> None:
    for sign in ("# ", "| ", "- ", "```\n", "*_", "[", "\n\n", "a:\n", "> ", "# " + " " * 50):
        units(sign * (8000 // len(sign)) + "x", "", "")


def test_a_sentence_before_a_rule_is_no_heading() -> None:
    text = "---\nNote: the gate\nopens at nine.\n---\n\nFees\n---\n\nNone are due."
    assert [one.text for one in units(text, "", "")] == [
        "Note: the gate\nopens at nine.",
        "None are due.",
    ]
