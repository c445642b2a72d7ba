import re
import threading

import pytest

from services.search.text_analysis import encode_term, stems, words


def test_words_are_case_folded() -> None:
    assert words("The STRASSE, straße: Ünï-code 42!") == [
        *("the", "strasse", "strasse", "ünï", "code", "42")
    ]
    assert words("…!") == []


def test_stems_lack_endings_and_stop_words() -> None:
    assert stems("The dogs are walking to a walk") == ["dog", "walk", "walk"]
    assert stems("the of and") == []


@pytest.mark.parametrize("text", ["naïve", "x" * 1000, "漢字", "a_b"])
def test_every_stem_can_stand_in_a_key(text: str) -> None:
    [stem] = stems(text)
    assert re.fullmatch(r"[a-z0-9]{1,65}", stem)


def test_encoded_terms_are_distinct() -> None:
    terms = ["a", "A", "x61", "ä", "x" * 32, "x" * 33, "x" * 34]
    encoded = [encode_term(term) for term in terms]
    assert len(set(encoded)) == len(terms)
    assert encoded[0] == "x61"
    assert [one[0] for one in encoded[-3:]] == ["x", "s", "s"]


def test_every_thread_has_its_own_stemmer() -> None:
    found: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(stems("running dogs"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["run", "dog"]] * 4
