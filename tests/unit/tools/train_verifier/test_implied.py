from services.gateway.cache.labelled_pairs import LabelledPair
from tools.train_verifier.implied import MAX_GROUP, implied_pairs


def test_duplicates_of_a_duplicate_ask_the_same() -> None:
    known = [LabelledPair("a", "b", True), LabelledPair("b", "c", True)]
    assert implied_pairs(known, 1) == [LabelledPair("a", "c", True)]


def test_groups_of_different_questions_differ() -> None:
    known = [
        LabelledPair("a", "b", True),
        LabelledPair("x", "y", True),
        LabelledPair("a", "x", False),
    ]
    for seed in range(5):
        found = implied_pairs(known, seed)
        assert all(not pair.same for pair in found)
        assert all({pair.one, pair.other} <= {*"abxy"} for pair in found)
        assert LabelledPair("a", "x", False) not in found


def test_large_groups_are_left_out() -> None:
    known = [LabelledPair("a", f"b{number}", True) for number in range(MAX_GROUP)]
    assert implied_pairs(known, 1) == []
