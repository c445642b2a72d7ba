import pytest

from services.gateway.auth.counts import DAY, Counts
from services.key_file import Limits


def test_the_minute_slides() -> None:
    counts = Counts(now=600.0, requests=30, tokens=100)
    counts.advance(660.0)
    assert (counts.recent_requests, counts.recent_tokens) == (30, 100)
    counts.advance(675.0)
    assert (counts.recent_requests, counts.recent_tokens) == (22.5, 75)
    counts.requests += 1
    assert counts.recent_requests == 23.5
    counts.advance(720.0)
    assert counts.recent_requests == 1
    counts.advance(840.0)
    assert counts.recent_requests == 0


def test_the_day_ends_at_midnight() -> None:
    counts = Counts(now=DAY - 1.0)
    counts.add(5, 0.25)
    assert (counts.day_tokens, counts.day_money, counts.tokens) == (5, 0.25, 5)
    counts.advance(float(DAY))
    assert (counts.day_tokens, counts.day_money) == (0, 0)


@pytest.mark.parametrize(
    ("limits", "counts", "exceeded"),
    [
        (Limits(), Counts(requests=1e9, calls=10**9), ""),
        (Limits(requests_per_minute=2), Counts(requests=1), ""),
        (Limits(requests_per_minute=2), Counts(requests=2), "requests_per_minute"),
        (Limits(requests_per_minute=2), Counts(earlier_requests=1.5), "requests_per_minute"),
        (Limits(requests_per_minute=0), Counts(), "requests_per_minute"),
        (Limits(tokens_per_minute=2), Counts(tokens=1), ""),
        (Limits(tokens_per_minute=2), Counts(tokens=2), "tokens_per_minute"),
        (Limits(tokens_per_day=2), Counts(day_tokens=2), "tokens_per_day"),
        (Limits(money_per_day=0.5), Counts(day_money=0.49), ""),
        (Limits(money_per_day=0.5), Counts(day_money=0.5), "money_per_day"),
        (Limits(concurrent_calls=1), Counts(calls=0), ""),
        (Limits(concurrent_calls=1), Counts(calls=1), "concurrent_calls"),
    ],
)
def test_the_first_limit_that_is_reached_is_named(
    limits: Limits, counts: Counts, exceeded: str
) -> None:
    assert counts.exceeded(limits) == exceeded


@pytest.mark.parametrize("now", [600.0, 630.0, 659.0])
@pytest.mark.parametrize("counted", [10, 13, 50])
@pytest.mark.parametrize("earlier", [0, 7, 10, 40])
@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_after_the_wait_a_call_is_allowed_and_not_much_before(
    now: float, counted: int, earlier: int, kind: str
) -> None:
    limits = Limits(**{f"{kind}_per_minute": 10})
    name = f"{kind}_per_minute"

    def at(seconds: float) -> str:
        counts = Counts(now=now, **{kind: counted, f"earlier_{kind}": earlier})
        counts.advance(now + seconds)
        return counts.exceeded(limits)

    assert at(0) == name
    wait = Counts(now=now, **{kind: counted, f"earlier_{kind}": earlier}).retry_after(name, limits)
    assert at(wait + 1e-6) == ""
    assert at(wait - 7) == name


def test_a_quota_waits_for_midnight_and_a_call_for_another_to_end() -> None:
    counts = Counts(now=DAY - 100.0)
    assert counts.retry_after("tokens_per_day", Limits()) == 100
    assert counts.retry_after("concurrent_calls", Limits()) == 1


def test_the_reset_is_when_nothing_is_counted_any_more() -> None:
    counts = Counts(now=615.0)
    assert counts.reset_after(0, 0) == 0
    assert counts.reset_after(0, 1) == 45
    assert counts.reset_after(1, 0) == 105
