from services.gateway.coalescing.circuit_breaker import FAILURES, REST, Breaker


def test_it_rests_after_failures_in_a_row_and_lets_one_find_out() -> None:
    now = 0.0
    breaker = Breaker(lambda: now)
    for _ in range(FAILURES - 1):
        breaker.note(worked=False)
    breaker.note(worked=True)
    for _ in range(FAILURES):
        assert breaker.allows()
        breaker.note(worked=False)
    assert not breaker.allows()
    now = REST + 0.1
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.note(worked=True)
    assert breaker.allows()
    assert breaker.allows()
