import random
from pathlib import Path

import pytest

from services.embedder.training import text_pairs
from services.embedder.training.text_pairs import TextPair


def write(folder: Path, *lines: str) -> Path:
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(lines))
    return file


def test_pairs_are_read_with_their_labels(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '{"a": "one", "b": "two"}',
        "",
        '{"a": "x", "b": "y", "label": false}',
        '{"a": "p", "b": "q", "duplicate": 1}',
    )
    assert text_pairs.read(file) == [
        TextPair("one", "two", True),
        TextPair("x", "y", False),
        TextPair("p", "q", True),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no JSON", "pairs.jsonl:1 is not valid JSON"),
        ("[]", "pairs.jsonl:1: expected"),
        ('{"a": "x"}', "pairs.jsonl:1: expected"),
        ('{"a": "x", "b": " "}', "pairs.jsonl:1: expected"),
        ('{"a": "x", "b": 1}', "pairs.jsonl:1: expected"),
        ('{"a": "x", "b": "y", "label": "maybe"}', "label must be true or false, not 'maybe'"),
        ('{"a": "x", "b": "y", "label": 0}', "no pair of matching texts"),
        ("", "no pair of matching texts"),
    ],
)
def test_other_lines_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text_pairs.read(write(tmp_path, line))


def test_pairs_that_share_a_text_are_one_group() -> None:
    pairs = [TextPair("a", "b"), TextPair("c", "d"), TextPair("b", "e"), TextPair("e", "f", False)]
    first, other, second, third = text_pairs.groups(pairs)
    assert first == second == third != other
    of_text = text_pairs.groups_of_texts(pairs)
    assert of_text["a"] == of_text["f"] == first
    assert of_text["c"] == of_text["d"] == other


def test_the_first_of_every_few_groups_is_held_out() -> None:
    pairs = [TextPair(f"a{n}", f"b{n}", n % 2 == 0) for n in range(12)]
    train, held_out = text_pairs.split(pairs, 3)
    assert [pair.a for pair in held_out] == ["a0", "a1", "a6", "a7"]
    assert len(train) == 8
    assert text_pairs.split(pairs, 0) == (pairs, [])


def test_no_text_is_on_both_sides() -> None:
    rng = random.Random(3)
    pairs = [
        TextPair(str(rng.randrange(400)), str(rng.randrange(400)), rng.random() < 0.5)
        for _ in range(200)
    ]
    train, held_out = text_pairs.split(pairs, 4)
    assert len(train) + len(held_out) == 200
    assert held_out
    texts = {text for pair in train for text in (pair.a, pair.b)}
    assert texts.isdisjoint(text for pair in held_out for text in (pair.a, pair.b))
