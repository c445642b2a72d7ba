"""The rate-limit headers of OpenAI's API (https://platform.openai.com/docs/guides/rate-limits)."""

from collections.abc import Iterable, Sequence

from services.gateway.auth.counts import MINUTE, Counts
from services.gateway.auth.limit_store import Subject

Headers = list[tuple[bytes, bytes]]


def limit_headers(subjects: Sequence[Subject], counts: Sequence[Counts]) -> Headers:
    """Return the headers. Where a key and its tenant have limits, they show what leaves less."""
    pairs = list(zip(subjects, counts, strict=True))
    return [
        *_headers(
            "requests",
            [
                (
                    subject.limits.requests_per_minute,
                    one.recent_requests,
                    one.reset_after(one.requests, one.earlier_requests),
                )
                for subject, one in pairs
            ],
        ),
        *_headers(
            "tokens",
            [
                (
                    subject.limits.tokens_per_minute,
                    one.recent_tokens,
                    one.reset_after(one.tokens, one.earlier_tokens),
                )
                for subject, one in pairs
            ],
        ),
    ]


def _headers(unit: str, rows: Iterable[tuple[int | None, float, float]]) -> Headers:
    """Return the headers of a unit; the rows have the limit, the use and the seconds until 0."""
    found = [
        (max(0, int(limit - used)), limit, seconds)
        for limit, used, seconds in rows
        if limit is not None
    ]
    if not found:
        return []
    remaining, limit, seconds = min(found)
    values = {"limit": str(limit), "remaining": str(remaining), "reset": _duration(seconds)}
    return [
        (f"x-ratelimit-{name}-{unit}".encode(), value.encode()) for name, value in values.items()
    ]


def _duration(seconds: float) -> str:
    """Return a duration as OpenAI writes it: ``12.5s`` or ``1m2.5s``."""
    minutes, rest = divmod(round(seconds, 3), MINUTE)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{minutes:.0f}m{text}s" if minutes else f"{text}s"
