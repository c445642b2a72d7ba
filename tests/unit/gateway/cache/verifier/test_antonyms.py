import pytest

from services.gateway.cache.verifier.antonyms import have_opposites


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("turn it on", "turn it off", True),
        ("the cheapest flight", "the most expensive flight", True),
        ("the tallest tower", "the shortest tower", True),
        ("paid invoices", "unpaid invoices", True),
        ("is it legal", "is it illegal", True),
        ("activo el modo", "desactivo el modo", True),
        ("einschalten", "ausschalten", True),
        ("import it", "export it", True),
        ("a useful thing", "a useless thing", True),
        ("the employer", "the employee", True),
        ("is it bigger or smaller", "is it larger", False),  # beside its own opposite
        ("in front of me", "infront of me", False),
        ("turn it on", "turn it on now", False),
        ("it is open", "it is open", False),
        ("who goes on about one two three", "who is off with four five six", False),
    ],
)
def test_opposites(one: str, other: str, expected: bool) -> None:
    left, right = one.split(), other.split()
    assert have_opposites(left, right) is have_opposites(right, left) is expected
