"""The bound of lookups that name none."""

from dataclasses import replace

from services.gateway.cache.types import Bound
from services.settings import SettingError


def default_bound(max_error_rate: float, min_similarity: float | None = None) -> Bound:
    """Return the bound of the settings: the minimum cosine if it is set, otherwise the error rate.

    Raises:
        SettingError: a value is out of range.
    """
    if not 0 < max_error_rate < 1:
        raise SettingError(
            f"MEMETWIN_CACHE_MAX_ERROR_RATE is {max_error_rate}; it must be above 0 and below 1."
        )
    if min_similarity is None:
        return Bound(max_error_rate=max_error_rate)
    if not -1 <= min_similarity <= 1:
        raise SettingError(
            f"MEMETWIN_CACHE_MIN_SIMILARITY is {min_similarity}; it must be from -1 to 1."
        )
    return Bound(min_similarity=min_similarity)


def or_default(bound: Bound, default: Bound) -> Bound:
    """Return ``bound``, with the limits of ``default`` if it names neither of the two."""
    if bound.min_similarity is not None or bound.max_error_rate is not None:
        return bound
    return replace(
        bound, min_similarity=default.min_similarity, max_error_rate=default.max_error_rate
    )
