import random

import pytest

from services.gateway.cache.pricing import Prices
from services.gateway.cache.statistics import BUCKETS, quantile
from services.settings import SettingError


def test_a_quantile_lies_in_its_bucket() -> None:
    counts = [0.0] * (len(BUCKETS) + 1)
    assert quantile(counts, 0.5) == 0
    counts[3] = 10
    assert BUCKETS[2] < quantile(counts, 0.5) <= BUCKETS[3]
    assert quantile(counts, 1) == BUCKETS[3]
    counts[-1] = 90  # beyond the last bucket nobody knows how far
    assert quantile(counts, 0.5) == BUCKETS[-1]


def test_quantiles_are_near_those_of_the_numbers() -> None:
    numbers = [random.Random(one).lognormvariate(-6, 1) for one in range(2_000)]
    counts = [0.0] * (len(BUCKETS) + 1)
    for number in numbers:
        counts[sum(number > bucket for bucket in BUCKETS)] += 1
    for share in (0.1, 0.5, 0.99):
        true = sorted(numbers)[int(share * len(numbers)) - 1]
        assert true / 2 < quantile(counts, share) < true * 2


def test_prices_are_of_a_million_tokens() -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}
    assert Prices.read("0.15,0.60").of(usage) == pytest.approx(0.45)
    assert Prices.read("").of(usage) == 0
    assert Prices.read("1,1").of({}) == 0


@pytest.mark.parametrize("text", ["1", "a,b", "1,2,3", "-1,2", "nan,1", "1,inf"])
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="MEMETWIN_LLM_PRICES"):
        Prices.read(text)
