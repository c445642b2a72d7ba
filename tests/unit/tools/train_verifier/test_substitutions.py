from collections import Counter

from tools.train_verifier import substitutions

TEXTS = (
    "Is the shop open on Monday?",
    "How do I fly from Paris to London?",
    "What is a meme?",
    "Can I learn Python in a week?",
)


def test_a_replaced_word_is_of_the_same_class() -> None:
    found = substitutions.pairs(TEXTS, 1, 3)
    for pair in found:
        if not pair.same and pair.one == TEXTS[0]:
            word = pair.other.removeprefix("Is the shop open on ").rstrip("?")
            assert word.lower() in substitutions.CLASSES[0]
            assert word != "Monday"


def test_directions_are_reversed() -> None:
    found = substitutions.pairs(TEXTS, 1, 4)
    assert any(pair.other == "How do I fly from London to Paris?" for pair in found)


def test_half_of_the_pairs_ask_the_same_and_no_word_tells_which() -> None:
    found = substitutions.pairs(TEXTS * 50, 1, 100)
    same = Counter(pair.same for pair in found)
    assert abs(same[True] - same[False]) <= len(found) / 4
    assert found == substitutions.pairs(TEXTS * 50, 1, 100)
