"""The request and response headers of the cache."""

from dataclasses import dataclass

CACHE_HEADER = {
    "exact": "hit-exact",
    "semantic": "hit-semantic",
    "miss": "miss",
    "bypass": "bypass",
}
PREFIX = "X-Memetwin-"
KIND, REASON, ENTRY_ID, SIMILARITY = (
    f"{PREFIX}{name}" for name in ("Cache", "Cache-Reason", "Entry-Id", "Similarity")
)
AGE = "Age"


@dataclass(frozen=True)
class ServedEntry:
    """The entry that a request was answered from: its id, and seconds since it was stored."""

    id: str
    age: float


def cache_headers(
    kind: str, entry: ServedEntry | None, reason: str = "", similarity: float = 0.0
) -> dict[str, str]:
    """Return the headers that report the cache's decision.

    Args:
        kind: the kind of the cache's decision.
        entry: the entry that was served; None if none was.
        reason: why no entry was served.
        similarity: cosine similarity of the nearest prompt; 0 if there is none.
    """
    headers = {KIND: CACHE_HEADER[kind]}
    if entry is not None:
        headers |= {AGE: str(int(entry.age)), ENTRY_ID: entry.id}
    elif reason:
        headers[REASON] = reason.upper()
    if similarity:
        headers[SIMILARITY] = f"{similarity:.4f}"
    return headers


def cache_control(header: str) -> tuple[bool, bool, float | None]:
    """Return ``no-cache``, ``no-store`` and ``max-age`` of a request (RFC 9111, section 5.2.1)."""
    directives = dict(
        directive.partition("=")[::2] for directive in header.replace(" ", "").lower().split(",")
    )
    age = directives.get("max-age", "")
    is_number = age.isascii() and age.isdigit()
    return (
        "no-cache" in directives,
        "no-store" in directives,
        float(age[:12]) if is_number else None,
    )
