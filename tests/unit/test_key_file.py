import json
import math
from typing import Any

import pytest

from services.key_file import (
    ALL_BUT_ADMIN,
    Key,
    Limits,
    expand_rights,
    format_time,
    new_key,
    parse,
    parse_time,
    sha256,
)

DIGEST = sha256("secret")


def test_a_list_of_keys_and_an_object_with_keys_are_read() -> None:
    row = {"sha256": DIGEST.upper(), "tenant": "acme"}
    for data in ([row], {"keys": [row]}):
        assert parse(json.dumps(data)).keys == {DIGEST: Key(DIGEST, "acme")}
    assert parse("[]").keys == parse("{}").keys == {}


def test_every_field_is_read() -> None:
    row = {
        "sha256": DIGEST,
        "tenant": "acme",
        "name": "app",
        "rights": ["rag", "search:read", "admin"],
        "collections": ["manuals"],
        "user": "ann",
        "namespaces": ["app", "test"],
        "max_error_rate": 0.02,
        "not_after": "2030-01-31T12:00:00+01:00",
        "limits": {"requests_per_minute": 60, "money_per_day": 2.5},
    }
    limits = {"acme": {"tokens_per_minute": 1000, "tokens_per_day": 9, "concurrent_calls": 0}}
    file = parse(json.dumps({"keys": [row], "tenants": limits}))
    assert file.keys[DIGEST] == Key(
        DIGEST,
        "acme",
        "app",
        frozenset({"rag:read", "rag:write", "search:read", "admin"}),
        frozenset({"manuals"}),
        "ann",
        ("app", "test"),
        0.02,
        1896087600.0,
        Limits(requests_per_minute=60, money_per_day=2.5),
    )
    assert file.tenants == {
        "acme": Limits(tokens_per_minute=1000, tokens_per_day=9, concurrent_calls=0)
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "abc"}, "64 hexadecimal digits"),
        ({"tenant": None}, "tenant must be a text"),
        ({"rights": ["all"]}, "'all' is not a right"),
        ({"rights": ["rag:delete"]}, "'rag:delete' is not a right"),
        ({"rights": "rag"}, "rights must be a list of texts"),
        ({"namespaces": []}, "at least one"),
        ({"max_error_rate": 1}, "between 0 and 1"),
        ({"not_after": "2030-01-31T12:00:00"}, "not an RFC 3339 time"),
        ({"not_after": 5}, "not an RFC 3339 time"),
        ({"not_afer": "2030-01-31T12:00:00Z"}, "unknown field 'not_afer'"),
        ({"limits": {"requests": 5}}, "unknown field 'requests'"),
        ({"limits": {"requests_per_minute": -1}}, "0 or more"),
        ({"limits": {"requests_per_minute": 1.5}}, "0 or more"),
        ({"limits": {"concurrent_calls": True}}, "0 or more"),
    ],
)
def test_an_invalid_key_is_refused_with_its_place(changes: dict[str, Any], message: str) -> None:
    row = {"sha256": DIGEST, "tenant": "acme"}
    other = {"sha256": sha256("other"), "tenant": "acme"}
    with pytest.raises(ValueError, match=rf"^keys\[1\]: .*{message}"):
        parse(json.dumps([other, row | changes]))


@pytest.mark.parametrize("text", ["", "1", '{"key": []}', "[1]", '{"keys": {}}', '{"tenants": []}'])
def test_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_a_key_that_is_listed_twice_is_refused() -> None:
    row = {"sha256": DIGEST, "tenant": "acme"}
    with pytest.raises(ValueError, match="listed twice"):
        parse(json.dumps([row, row]))


def test_a_feature_stands_for_both_of_its_rights() -> None:
    assert expand_rights(["twin"]) == {"twin:read", "twin:write"}
    features = {right.partition(":")[0] for right in ALL_BUT_ADMIN}
    assert expand_rights(features) == ALL_BUT_ADMIN


def test_times_are_read_and_written() -> None:
    assert format_time(parse_time("2030-01-31T12:00:00+01:00")) == "2030-01-31T11:00:00Z"
    assert format_time(math.inf) == ""


def test_new_keys_differ_and_come_with_their_hash() -> None:
    (one, digest), (other, _) = new_key(), new_key()
    assert one != other
    assert digest == sha256(one)
