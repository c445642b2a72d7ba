import json
from pathlib import Path
from typing import Any

import click
import pytest

from services.cli.faq_file import MAX_ENTRY_BYTES, Row, read


def rows(folder: Path, content: str, name: str = "faq.jsonl", encoding: str = "utf-8") -> list[Row]:
    file = folder / name
    file.write_bytes(content.encode(encoding))
    return list(read(file))


def fields(row: Row) -> dict[str, Any]:
    assert row.entry, row.problem
    one = row.entry
    found = {field.name: value for field, value in one.ListFields()}
    if one.metadata:
        found["metadata"] = dict(one.metadata)
    if one.cites:
        found["cites"] = list(one.cites)
    return found


def test_json_lines_with_all_fields(tmp_path: Path) -> None:
    line = {
        "prompt": " Why? ",
        "response": "Because.",
        "model": "m",
        "ttl": 60,
        "cites": ["a", "b"],
        "metadata": {"topic": "reasons"},
        "number": 7,
    }
    [row] = rows(tmp_path, json.dumps(line))
    assert fields(row) == {
        "prompt": "Why?",
        "response": "Because.",
        "model": "m",
        "ttl": 60.0,
        "cites": ["a", "b"],
        "metadata": {"topic": "reasons", "number": "7"},
    }


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_with_the_usual_names_and_further_columns(tmp_path: Path, delimiter: str) -> None:
    header = delimiter.join(["Question", "Answer", "topic", "cites"])
    first = delimiter.join(['"Why,\nand how?"', "Because.", "reasons", "guide.md"])
    second = delimiter.join(["Who?", "You.", "", ""])
    one, two = rows(tmp_path, f"\ufeff{header}\r\n{first}\r\n{second}\r\n", "faq.csv")
    assert fields(one) == {
        "prompt": "Why,\nand how?",
        "response": "Because.",
        "cites": ["guide.md"],
        "metadata": {"topic": "reasons"},
    }
    assert (fields(two), two.line) == ({"prompt": "Who?", "response": "You."}, 4)


def test_a_file_without_a_suffix_is_recognised(tmp_path: Path) -> None:
    assert len(rows(tmp_path, "\n" + '{"question": "Why?", "answer": "Because."}', "faq")) == 1
    assert len(rows(tmp_path, "question,answer\nWhy?,Because.\n", "faq")) == 1
    assert rows(tmp_path, "", "faq") == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"question": "Why?"}', "no text as response"),
        ('{"question": 5, "answer": "Because."}', "no text as prompt"),
        ('{"question": "Why?", "answer": "Yes.", "model": 5}', "no text as model"),
        ('{"question": "Why?", "answer": "Yes.", "ttl": "soon"}', "ttl is not a number"),
        (
            '{"question": "Why?", "answer": "Yes.", "metadata": [1]}',
            "metadata is not a JSON object",
        ),
        ('{"question": "Why?", "answer": "Yes.", "cites": 5}', ""),
        ('{"question": "\\ud800", "answer": "Yes."}', ""),
        (json.dumps({"question": "Why?", "answer": "x" * MAX_ENTRY_BYTES}), "longer than"),
    ],
)
def test_a_bad_line_is_a_row_with_a_problem(tmp_path: Path, line: str, problem: str) -> None:
    bad, good = rows(tmp_path, line + '\n\n{"prompt": "Why?", "response": "Because."}\n')
    assert (bad.line, bad.entry, good.line) == (1, None, 3)
    assert problem in bad.problem
    assert bad.problem


def test_a_row_with_too_many_cells_has_a_problem(tmp_path: Path) -> None:
    [row] = rows(tmp_path, "question,answer\nWhy?,Because, of it.\n", "faq.csv")
    assert "more cells than the header" in row.problem


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        ("Why?,Because.\n", "utf-8", "The first line must name the columns"),
        ('question,answer\nWhy?,"Because\n', "utf-8", "not valid CSV"),
        ("question,answer\nWarum?,Schön.\n", "latin-1", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, content: str, encoding: str, message: str
) -> None:
    with pytest.raises(click.ClickException) as caught:
        rows(tmp_path, content, "faq.csv", encoding)
    assert message in caught.value.message
