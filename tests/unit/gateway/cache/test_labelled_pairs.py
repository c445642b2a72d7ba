from services.gateway.cache.labelled_pairs import (
    LabelledPair,
    component_representatives,
    distinct_texts,
    split_in_halves,
)


def pair(one: str, other: str) -> LabelledPair:
    return LabelledPair(one, other, True)


def test_texts_are_distinct_and_in_order() -> None:
    assert distinct_texts([pair("b", "a"), pair("a", "c"), pair("b", "c")]) == ["b", "a", "c"]


def test_connected_questions_share_the_first_of_them() -> None:
    pairs = [pair("d", "c"), pair("x", "y"), pair("b", "c"), pair("d", "a")]
    assert component_representatives(pairs) == {
        **dict.fromkeys("abcd", "a"),
        **dict.fromkeys("xy", "x"),
    }


def test_halves_share_no_question_and_do_not_depend_on_the_order() -> None:
    chain = [pair(f"q{n}", f"q{n + 1}") for n in range(30)]
    apart = [pair(f"a{n}", f"b{n}") for n in range(100)]
    first, second = split_in_halves([*chain, *apart])
    assert len(first) + len(second) == 130
    assert all((first, second))
    assert not set(distinct_texts(first)) & set(distinct_texts(second))
    again, _ = split_in_halves([*reversed(apart), *reversed(chain)])
    assert set(again) == set(first)
