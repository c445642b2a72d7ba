import pytest

from services.gateway.backends.fields import from_field, to_field
from services.gateway.backends.types import Value, field_types


@pytest.mark.parametrize("value", [1.5, 0.0, "a", "", ["a", "b"], [], {"lat": 1.5, "lon": -2.0}])
def test_a_value_is_the_same_after_its_message(value: Value) -> None:
    assert from_field(to_field(value)) == value


def test_types_follow_the_values() -> None:
    fields: dict[str, Value] = {"a": 1.0, "b": "x", "c": ["x"], "d": {"lat": 0.0, "lon": 0.0}}
    assert field_types(fields) == {"a": "number", "b": "tag", "c": "tag", "d": "geo"}
