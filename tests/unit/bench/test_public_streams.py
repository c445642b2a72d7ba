import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.public_streams import Prompt, read


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    lines = [json.dumps(row) for row in rows]
    file.write_text("\n".join(lines) if file.suffix == ".jsonl" else f"[{','.join(lines)}]")
    return file


@pytest.mark.parametrize("name", ["arena.jsonl", "arena.json"])
def test_prompts_of_one_id_set_have_one_answer(tmp_path: Path, name: str) -> None:
    rows = [
        {"id": 1, "id_set": 7, "prompt": "Write a haiku.", "response_gpt-4o-mini": "Rain."},
        {"id": 2, "id_set": 7, "prompt": "Give me a haiku.", "response_gpt-4o-mini": "Snow."},
        {"id": 3, "id_set": 8, "prompt": "What is an aorta?", "response_gpt-4o-mini": "An artery."},
    ]
    assert read(write(tmp_path / name, rows)) == [
        Prompt("Write a haiku.", "7"),
        Prompt("Give me a haiku.", "7"),
        Prompt("What is an aorta?", "8"),
    ]


def test_equal_responses_are_one_answer_without_id_sets(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "task": "Is the review positive?",
            "text": "Great film.",
            "response_llama_3_8b": "Yes",
            "response_llama_3_8b_lat": 0.2,
        },
        {"prompt": "Is the review positive? Superb.", "response_llama_3_8b": " yes\n"},
    ]
    assert read(write(tmp_path / "classification.jsonl", rows)) == [
        Prompt("Is the review positive? Great film.", "yes"),
        Prompt("Is the review positive? Superb.", "yes"),
    ]


def test_the_limit_ends_the_reading(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    file.write_text('{"prompt": "tides", "id_set": 1}\n\nnot read')
    assert read(file, 1) == [Prompt("tides", "1")]


@pytest.mark.parametrize("row", [{"id_set": 1}, {"prompt": "tides", "emb_gte": [0.1]}])
def test_a_row_without_a_prompt_or_an_answer_is_named(tmp_path: Path, row: dict[str, Any]) -> None:
    rows = [{"prompt": "tides", "id_set": 1}, row]
    with pytest.raises(ValueError, match="Row 2 has no"):
        read(write(tmp_path / "queries.jsonl", rows))
