from services.gateway.auth.counts import Counts
from services.gateway.auth.limit_headers import limit_headers
from services.gateway.auth.limit_store import Subject
from services.key_file import Limits


def test_the_headers_are_those_of_openai() -> None:
    subject = Subject("key", "t", "k", Limits(requests_per_minute=60, tokens_per_minute=1000))
    counts = Counts(now=602.5, requests=1, tokens=250.5)
    assert dict(limit_headers([subject], [counts])) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1m57.5s",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"749",
        b"x-ratelimit-reset-tokens": b"1m57.5s",
    }


def test_of_a_key_and_a_tenant_the_one_that_leaves_less_is_shown() -> None:
    key = Subject("key", "t", "k", Limits(requests_per_minute=60))
    tenant = Subject("tenant", "t", "tenant", Limits(requests_per_minute=100))
    headers = dict(limit_headers([key, tenant], [Counts(requests=1), Counts(requests=99)]))
    assert headers[b"x-ratelimit-limit-requests"] == b"100"
    assert headers[b"x-ratelimit-remaining-requests"] == b"1"


def test_nothing_is_below_zero_and_other_limits_have_no_headers() -> None:
    subject = Subject("key", "t", "k", Limits(requests_per_minute=5, tokens_per_day=5))
    headers = dict(limit_headers([subject], [Counts(now=600.0, earlier_requests=9)]))
    assert headers == {
        b"x-ratelimit-limit-requests": b"5",
        b"x-ratelimit-remaining-requests": b"0",
        b"x-ratelimit-reset-requests": b"1m0s",
    }
