import pytest

from services.gateway.cache.pricing import Prices
from services.settings import SettingError


def test_prices_are_per_million_tokens() -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}
    assert Prices.parse("0.15,0.60").cost(usage) == pytest.approx(0.45)
    assert Prices.parse("").cost(usage) == 0
    assert Prices.parse("1,1").cost({}) == 0


@pytest.mark.parametrize("text", ["1", "a,b", "1,2,3", "-1,2", "nan,1", "1,inf"])
def test_bad_prices_are_rejected(text: str) -> None:
    with pytest.raises(SettingError, match="MEMETWIN_LLM_PRICES"):
        Prices.parse(text)
