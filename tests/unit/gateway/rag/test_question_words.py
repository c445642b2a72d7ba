import pytest

from services.gateway.rag.question_words import QuestionWords, weights


@pytest.mark.parametrize(
    ("question", "stems"),
    [
        ("Can you explain to me what a dank meme is?", {"dank", "mem"}),
        ("What does CACHE_TTL default to?", {"cache_ttl", "default"}),
        ("How long does the batter rest?", {"batter", "rest"}),
        ("Wer ist das?", {"wer", "ist", "das"}),
        ("東京駅は？", {"東京", "京駅", "駅は"}),
        ("What is it?", set()),
    ],
)
def test_words_that_only_ask_are_left_out(question: str, stems: set[str]) -> None:
    assert QuestionWords(question).stems == stems


def test_words_are_found_in_any_form_and_within_names() -> None:
    words = QuestionWords("Which log levels are open?")
    assert words.found_in("APP_LOG_LEVEL opens") == {"log", "level", "open"}
    assert words.found_in("nothing") == set()
    assert QuestionWords("istanbul").found_in("İstanbul") == {"istanbul"}


def test_rare_words_weigh_more() -> None:
    stems = frozenset(("fish", "open"))
    found = [frozenset({"open"}), frozenset({"open"}), frozenset({"fish", "open"})]
    weight = weights(stems, found)
    assert weight["fish"] > weight["open"]
    assert sum(weight.values()) == pytest.approx(1)
    assert weights(frozenset(), []) == {}
