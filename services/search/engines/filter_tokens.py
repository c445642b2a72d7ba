"""Tokens of tags and texts that the filters of both engines compare."""

from collections.abc import Iterable, Mapping

from services.search.filters import Value
from services.search.text_analysis import encode_term
from services.words import query_words, words

# Type of each declared field, in the order of declaration.
FieldTypes = Mapping[str, str]


def field_numbers(declared: FieldTypes) -> dict[str, int]:
    """Return the number that each declared field has in an index."""
    return {name: number for number, name in enumerate(declared)}


def tag_tokens(tags: str | Iterable[str]) -> list[str]:
    """Return the distinct tokens of one or more tags, sorted."""
    return sorted({encode_term(tag) for tag in ([tags] if isinstance(tags, str) else tags)})


def query_tokens(text: str) -> list[str]:
    """Return the distinct tokens that a text must have to match a condition, sorted."""
    return sorted({encode_term(word) for word in query_words(text)})


def field_tokens(value: Value | None, field_type: str) -> list[str]:
    """Return the tokens of a field of type ``tag`` or ``text``; none if it has no value."""
    if value is None:
        return []
    if field_type == "text":
        return sorted({encode_term(word) for word in words(str(value))})
    return tag_tokens(value)  # type: ignore[arg-type]
