from services.gateway.cache.verifier import vocabulary


def test_antonyms_are_pairs_of_different_words() -> None:
    assert all(len(pair) == 2 for pair in vocabulary.ANTONYMS)
    assert frozenset(("on", "off")) in vocabulary.ANTONYMS


def test_words_are_written_as_texts_are_read() -> None:
    """Texts are read in lower case and without apostrophes."""
    words = [
        *vocabulary.NEGATIONS,
        *vocabulary.NUMERALS,
        *vocabulary.AUXILIARIES,
        *vocabulary.UNITS,
        *vocabulary.STOP_WORDS,
    ]
    assert all(word == word.lower() and word.isalpha() for word in words)


def test_words_that_change_a_question_are_no_stop_words() -> None:
    assert not vocabulary.STOP_WORDS & vocabulary.NEGATIONS
    assert not vocabulary.STOP_WORDS & {"on", "from", "to", "by"}


def test_auxiliaries_stand_for_question_words() -> None:
    assert set(vocabulary.AUXILIARIES.values()) <= set(vocabulary.QUESTION_WORDS)
    assert vocabulary.NUMERALS["twelve"] == "12"
