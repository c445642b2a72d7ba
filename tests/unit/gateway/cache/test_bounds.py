import pytest

from services.gateway.cache.bounds import default_bound, or_default
from services.gateway.cache.types import Bound
from services.settings import SettingError


def test_a_minimum_cosine_replaces_the_error_rate() -> None:
    assert default_bound(0.03) == Bound(max_error_rate=0.03)
    assert default_bound(0.03, 0.0) == Bound(min_similarity=0.0)


@pytest.mark.parametrize("values", [(0.0, None), (1.0, None), (float("nan"), 0.9), (0.03, 1.5)])
def test_values_out_of_range_are_refused(values: tuple[float, float | None]) -> None:
    with pytest.raises(SettingError, match="MEMETWIN_CACHE_"):
        default_bound(*values)


def test_the_default_only_fills_what_a_bound_does_not_name() -> None:
    default = Bound(max_error_rate=0.03)
    assert or_default(Bound(max_age=5.0), default) == Bound(max_error_rate=0.03, max_age=5.0)
    for bound in (Bound(min_similarity=0.0), Bound(max_error_rate=0.2)):
        assert or_default(bound, default) == bound
