import numpy as np
import pytest

from services.gateway.cache.labelled_pairs import LabelledPair
from services.gateway.cache.verifier.model import INTERACTION_SCALE, Verifier
from tools.train_verifier.card import Table, card, recall, recall_intervals, tables

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
SAME = np.array([True, True, False, True, False])


def test_recall_at_a_precision() -> None:
    assert recall(SCORES, SAME, 1.0) == pytest.approx(2 / 3)
    assert recall(SCORES, SAME, 0.75) == 1
    assert recall(np.ones(5), SAME, 0.7) == 0


def test_intervals_contain_the_recall() -> None:
    scores, same = np.tile(SCORES, 20), np.tile(SAME, 20)
    [(low, high), (worse, _)] = recall_intervals([scores, -scores], same, 0.75)
    assert low <= 1 <= high
    assert worse <= low


def test_tables_show_recall_and_calibration() -> None:
    text = tables(SCORES, SCORES[::-1], SAME)
    assert "5 held-out pairs, of which 3 ask the same" in text
    assert "| 0.9 | 0.667 [" in text
    assert "| 0.5 to 0.6 | 1 | 0.500 | 0.000 |" in text


def table() -> Table:
    pairs = [LabelledPair("reset router", "reset a router", True), LabelledPair("a", "b", False)]
    texts = ["reset router", "reset a router", "a", "b"]
    vectors = np.eye(4, 3, dtype=np.float32)
    return Table(pairs, {text: row for row, text in enumerate(texts)}, vectors)


def test_a_table_holds_pairs_as_arrays() -> None:
    pairs = table()
    assert (pairs.one.tolist(), pairs.other.tolist()) == ([0, 2], [1, 3])
    assert pairs.cosines.tolist() == [0, 0]
    assert pairs.same.tolist() == [1, 0]
    expected = [[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]
    assert (pairs.interactions() / INTERACTION_SCALE).tolist() == expected
    assert pairs.interactions([1]).shape == (1, 6)


def test_a_card_names_the_command_and_the_counts() -> None:
    counts = {"train": 11, "calibration": 12, "held_out": 13, "added": 14}
    text = card(Verifier.load(), table(), "the-digest", counts)
    assert "`memetwin cache train --pairs question_pairs.jsonl" in text
    assert "--out services/gateway/cache/verifier/weights`" in text
    assert all(str(count) in text for count in counts.values())
    assert "digest `the-digest`" in text
