"""The cache's request and response headers."""

from services.gateway.cache.types import Decision

CACHE_HEADER = {
    "exact": "hit-exact",
    "semantic": "hit-semantic",
    "miss": "miss",
    "bypass": "bypass",
}


def cache_headers(decision: Decision) -> dict[str, str]:
    """Return the headers that say what the cache did."""
    headers = {"X-Memetwin-Cache": CACHE_HEADER[decision.kind]}
    if decision.entry:
        headers["Age"] = str(int(decision.entry.age))
    return headers


def cache_control(header: str) -> tuple[bool, bool, float | None]:
    """Read no-cache, no-store and max-age of a request (RFC 9111, section 5.2.1)."""
    asked = dict(
        directive.partition("=")[::2] for directive in header.replace(" ", "").lower().split(",")
    )
    age = asked.get("max-age", "")
    return "no-cache" in asked, "no-store" in asked, float(age) if age.isdigit() else None
