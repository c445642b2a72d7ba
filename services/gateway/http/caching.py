"""The request and response headers of the cache."""

CACHE_HEADER = {
    "exact": "hit-exact",
    "semantic": "hit-semantic",
    "miss": "miss",
    "bypass": "bypass",
}


def cache_headers(kind: str, age: float | None) -> dict[str, str]:
    """Return the headers that report the cache's decision.

    Args:
        kind: the kind of the cache's decision.
        age: seconds since the served entry was stored; None if no entry was served.
    """
    headers = {"X-Memetwin-Cache": CACHE_HEADER[kind]}
    if age is not None:
        headers["Age"] = str(int(age))
    return headers


def cache_control(header: str) -> tuple[bool, bool, float | None]:
    """Return ``no-cache``, ``no-store`` and ``max-age`` of a request (RFC 9111, section 5.2.1)."""
    directives = dict(
        directive.partition("=")[::2] for directive in header.replace(" ", "").lower().split(",")
    )
    age = directives.get("max-age", "")
    return "no-cache" in directives, "no-store" in directives, float(age) if age.isdigit() else None
