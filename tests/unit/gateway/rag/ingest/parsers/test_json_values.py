import pytest

from services.gateway.rag.ingest.parsers import json_values


def lines(content: str) -> list[str]:
    return json_values.parse(content.encode()).text.split("\n")


def test_values_are_named_by_their_paths() -> None:
    content = """{"title": "Config", "server": {"port": 8080, "tls": {"on": true, "key": null}},
      "tags": ["a", "b"], "people": [{"name": "Anna", "home": {"city": "Oslo"}}, {"name": "Bob"}],
      "mixed": [1, {"a": [[2], 3.50]}]}"""
    assert lines(content) == [
        "title: Config | tags: a, b",
        "server.port: 8080",
        "server.tls.on: true",
        "people.name: Anna | people.home.city: Oslo",
        "people.name: Bob",
        "mixed: 1",
        "mixed.a: 2 | mixed.a: 3.50",
    ]
    assert json_values.parse(content.encode()).title == "Config"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('"word"', "word"),
        ("[1, 2]", "1, 2"),
        ('{"a": 1, "a": 2}', "a: 1 | a: 2"),
        (
            '{"a": 123456789012345678901234567890, "b": 1e999, "c": NaN}',
            "a: 123456789012345678901234567890 | b: 1e999 | c: NaN",
        ),
        ('[{"a": "x"}, {"a": "y"}]', "a: x\na: y"),
    ],
)
def test_nothing_is_lost(content: str, text: str) -> None:
    assert json_values.parse(content.encode()).text == text


@pytest.mark.parametrize("content", ['// note\n{"a": 1}', "[" * 100_000, "{", ""])
def test_what_is_not_json_is_read_as_text(content: str) -> None:
    extract = json_values.parse(content.encode())
    assert extract.text == content
    assert "not valid JSON" in extract.warnings[0]


def test_each_line_is_a_record() -> None:
    content = '{"q": "When?", "a": {"text": "At\u2028nine."}}\n\nbroken\n["x"]\n'
    extract = json_values.parse_lines(content.encode())
    assert extract.text.split("\n") == ["q: When? | a.text: At nine.", "broken", "x"]
    assert extract.warnings == ["1 lines are not valid JSON. They were read as text."]
