from services.search.engines.filter_tokens import (
    field_numbers,
    field_tokens,
    query_tokens,
    tag_tokens,
)


def test_tags_are_case_sensitive_and_words_are_not() -> None:
    assert tag_tokens(("b", "A", "b")) == ["x41", "x62"]
    assert tag_tokens("ab") == ["x6162"]
    assert query_tokens("B a, b!") == ["x61", "x62"]


def test_fields_have_tokens_by_their_type() -> None:
    assert field_tokens("b a", "text") == ["x61", "x62"]
    assert field_tokens("b a", "tag") == ["x622061"]
    assert field_tokens(("b", "a"), "tag") == ["x61", "x62"]
    assert field_tokens(None, "tag") == []


def test_fields_are_numbered_in_the_order_of_declaration() -> None:
    assert field_numbers({"z": "tag", "a": "text"}) == {"z": 0, "a": 1}
