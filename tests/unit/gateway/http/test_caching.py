import pytest

from services.gateway.http.caching import cache_control, cache_headers


@pytest.mark.parametrize(
    ("header", "controls"),
    [
        ("", (False, False, None)),
        ("no-cache", (True, False, None)),
        ("No-Store , NO-CACHE", (True, True, None)),
        ("max-age=60", (False, False, 60.0)),
        ("max-age = 0, no-store", (False, True, 0.0)),
        ("max-age=soon", (False, False, None)),
        ("private", (False, False, None)),
    ],
)
def test_cache_control(header: str, controls: tuple[bool, bool, float | None]) -> None:
    assert cache_control(header) == controls


def test_the_headers_say_what_the_cache_did() -> None:
    assert cache_headers("miss", None) == {"X-Memetwin-Cache": "miss"}
    assert cache_headers("exact", 3.9) == {"X-Memetwin-Cache": "hit-exact", "Age": "3"}
    assert cache_headers("semantic", 0)["X-Memetwin-Cache"] == "hit-semantic"
    assert cache_headers("bypass", None)["X-Memetwin-Cache"] == "bypass"
