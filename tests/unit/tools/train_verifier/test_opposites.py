import random

import pytest

from services.gateway.cache.verifier.features import contradiction
from services.gateway.cache.verifier.lexical_text import LexicalText
from tools.train_verifier import opposites

TEXT = "Is Paris open in 2019 for boys?"


@pytest.mark.parametrize("name", opposites.CONTRADICTIONS)
def test_contradictions_change_what_they_are_named_for(name: str) -> None:
    pairs = opposites.generate([TEXT] * 3, opposites.CONTRADICTIONS[name], 2)
    assert len(pairs) == 2
    assert all(one == TEXT != other for one, other in pairs)
    if name != "name":  # a name is no contradiction of the lexical features
        found = {contradiction(LexicalText(one), LexicalText(other)) for one, other in pairs}
        assert found == {name}


@pytest.mark.parametrize("name", opposites.CONTRADICTIONS)
def test_texts_that_cannot_be_changed_are_left_out(name: str) -> None:
    assert opposites.generate(["hello there"], opposites.CONTRADICTIONS[name], 5) == []


def test_a_seed_fixes_the_pairs() -> None:
    transform = opposites.CONTRADICTIONS["number"]
    once, again = (opposites.generate([TEXT] * 5, transform, 5, seed=3) for _ in range(2))
    assert once == again
    assert opposites.generate([TEXT] * 5, transform, 5, seed=4) != once


def test_paraphrases_keep_the_content_words() -> None:
    rng = random.Random(0)
    for text in ("How do I reset my router?", "What is bread?", "Name the rivers of France"):
        changed = opposites.rephrase(text, rng)
        assert changed != text
        assert set(LexicalText(text).content) <= set(LexicalText(changed).content)
