"""Settings of the search service."""

from dataclasses import dataclass

from services.settings import CommonSettings, setting


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Settings of the search service."""

    listen: str = setting(
        "MEMETWIN_SEARCH_LISTEN",
        "127.0.0.1:50052",
        "Listen address of the search service.",
    )
    redis_url: str = setting(
        "MEMETWIN_REDIS_URL", "redis://127.0.0.1:6379", "URL of Redis.", secret=True
    )
    redis_prefix: str = setting(
        "MEMETWIN_REDIS_PREFIX", "memetwin:", "Prefix of every key that memetwin has in Redis."
    )
    recall_sample: float = setting(
        "MEMETWIN_SEARCH_RECALL_SAMPLE",
        0.0,
        "Share of Search calls, 0 to 1, in which one query is repeated exactly to measure recall.",
    )
