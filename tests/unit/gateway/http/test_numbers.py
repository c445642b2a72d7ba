import pytest

from services.errors import InvalidArgument
from services.gateway.http.numbers import whole_number


@pytest.mark.parametrize(
    ("options", "number"),
    [({}, 0), ({"limit": "12"}, 12), ({"limit": 7}, 7), ({"limit": "007"}, 7)],
)
def test_digits_are_numbers(options: dict[str, object], number: int) -> None:
    assert whole_number(options, "limit") == number


@pytest.mark.parametrize("text", ["", "²", "-1", "1.5", "1e3", "٣", "1" * 10, True, None, [1]])
def test_anything_else_is_refused_by_name(text: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        whole_number({"page_size": text}, "page_size")
    assert caught.value.reason == "BAD_PAGE_SIZE"
