import pytest

from services.gateway.http.caching import ServedEntry, cache_control, cache_headers


@pytest.mark.parametrize(
    ("header", "controls"),
    [
        ("", (False, False, None)),
        ("no-cache", (True, False, None)),
        ("No-Store , NO-CACHE", (True, True, None)),
        ("max-age=60", (False, False, 60.0)),
        ("max-age = 0, no-store", (False, True, 0.0)),
        ("max-age=soon", (False, False, None)),
        ("max-age=²", (False, False, None)),
        ("max-age=" + "9" * 5000, (False, False, 999_999_999_999.0)),
        ("private", (False, False, None)),
    ],
)
def test_cache_control(header: str, controls: tuple[bool, bool, float | None]) -> None:
    assert cache_control(header) == controls


def test_the_headers_say_what_the_cache_did() -> None:
    assert cache_headers("miss", None) == {"X-Memetwin-Cache": "miss"}
    assert cache_headers("semantic", ServedEntry("e1", 3.9), similarity=0.98765) == {
        "X-Memetwin-Cache": "hit-semantic",
        "Age": "3",
        "X-Memetwin-Entry-Id": "e1",
        "X-Memetwin-Similarity": "0.9877",
    }
    assert cache_headers("exact", ServedEntry("e1", 0))["X-Memetwin-Cache"] == "hit-exact"
    assert cache_headers("miss", None, "not_similar", 0.5) == {
        "X-Memetwin-Cache": "miss",
        "X-Memetwin-Cache-Reason": "NOT_SIMILAR",
        "X-Memetwin-Similarity": "0.5000",
    }
    assert cache_headers("bypass", None, "hosted_tools") == {
        "X-Memetwin-Cache": "bypass",
        "X-Memetwin-Cache-Reason": "HOSTED_TOOLS",
    }
