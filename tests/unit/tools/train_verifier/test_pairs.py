from pathlib import Path

import pytest

from services.errors import InvalidArgument
from services.gateway.cache.labelled_pairs import LabelledPair
from tools.train_verifier import pairs


def test_connected_questions_stay_in_one_part() -> None:
    chain = [LabelledPair(f"q{n}", f"q{n + 1}", True) for n in range(30)]
    apart = [LabelledPair(f"a{n}", f"b{n}", False) for n in range(300)]
    split = pairs.split([*chain, *apart])
    parts = [split.train, split.calibration, split.held_out]
    assert sum(bool(set(chain) & set(part)) for part in parts) == 1
    assert all(parts)
    assert sum(map(len, parts)) == 330
    again = pairs.split([*reversed(apart), *reversed(chain)])
    assert set(again.train) == set(split.train)


def test_most_pairs_train(tmp_path: Path) -> None:
    split = pairs.split([LabelledPair(f"a{n}", f"b{n}", False) for n in range(2000)])
    assert 0.6 < len(split.train) / 2000 < 0.68
    assert 0.08 < len(split.calibration) / 2000 < 0.12


def test_a_file_of_json_lines_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"a": "1", "b": "2", "duplicate": true}\n')
    assert pairs.read(tmp_path / "x") == [LabelledPair("1", "2", True)]


@pytest.mark.parametrize("line", ['{"a": "1"}', "[]", "1", "no JSON"])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "x").write_text('{"a": "1", "b": "2", "duplicate": true}\n' + line)
    with pytest.raises(InvalidArgument, match="Line 2"):
        pairs.read(tmp_path / "x")
