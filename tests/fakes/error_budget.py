"""A fake error budget for shadow requests."""

from typing import Any

from services.errors import Unavailable


class FakeErrorBudget:
    """Samples a fixed share of the hits, and records what it receives.

    Attributes:
        rate: the share.
        fails: makes ``shadow_rate`` raise Unavailable.
        answers: the shadow answers, with their trials and weights.
        asked: whether ``shadow_rate`` has been called.
    """

    def __init__(self) -> None:
        self.rate, self.fails = 1.0, False
        self.answers: list[tuple[Any, str, float]] = []
        self.asked = False

    async def shadow_rate(self, trial: Any) -> float:
        self.asked = True
        if self.fails:
            raise Unavailable("REDIS_UNAVAILABLE", "Redis does not answer.")
        return self.rate

    async def record_shadow_answer(self, trial: Any, response: str, weight: float) -> None:
        self.answers.append((trial, response, weight))
