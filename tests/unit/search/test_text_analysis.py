import re
import threading

import pytest

from services.search.text_analysis import encode_term, query_stems, stems


def test_stems_lack_endings_and_stop_words() -> None:
    assert stems("The dogs are walking to a walk") == ["dog", "walk", "walk"]
    assert stems("the of and") == []


def test_queries_have_pairs_of_characters_only() -> None:
    assert query_stems("the 東京都") == [encode_term("東京"), encode_term("京都")]
    assert set(query_stems("東京都")) < set(stems("東京都"))


@pytest.mark.parametrize("text", ["naïve", "x" * 1000, "漢字", "a_b"])
def test_every_stem_can_stand_in_a_key(text: str) -> None:
    [stem] = query_stems(text)
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
