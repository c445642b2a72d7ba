"""What a key or a tenant has used, and what its limits still allow.

Minutes slide: the count of the last 60 seconds is that of the current minute, plus the share of the
minute before that is not yet 60 seconds old. Days are those of UTC.
"""

import math
from dataclasses import dataclass

from services.key_file import Limits

MINUTE, DAY = 60, 86_400
# The limits in the order in which they are checked.
LIMITS = (
    "concurrent_calls",
    "requests_per_minute",
    "tokens_per_minute",
    "tokens_per_day",
    "money_per_day",
)
# How soon a call that waits for another one to end may try again.
_CALL_RETRY = 1.0


@dataclass
class Counts:
    """The counters at a time.

    Attributes:
        now: the time in seconds since the epoch.
        requests: the requests of this minute.
        earlier_requests: the requests of the minute before.
        tokens: the tokens of this minute.
        earlier_tokens: the tokens of the minute before.
        day_tokens: the tokens of this day.
        day_money: the money of this day.
        calls: the calls in flight.
    """

    now: float = 0.0
    requests: float = 0.0
    earlier_requests: float = 0.0
    tokens: float = 0.0
    earlier_tokens: float = 0.0
    day_tokens: float = 0.0
    day_money: float = 0.0
    calls: int = 0

    def advance(self, now: float) -> None:
        """Move to a later time."""
        minutes = now // MINUTE - self.now // MINUTE
        if minutes >= 1:
            is_next = minutes == 1
            self.earlier_requests = self.requests if is_next else 0.0
            self.earlier_tokens = self.tokens if is_next else 0.0
            self.requests = self.tokens = 0.0
        if now // DAY != self.now // DAY:
            self.day_tokens = self.day_money = 0.0
        self.now = now

    def add(self, tokens: float, money: float) -> None:
        """Count tokens and their cost."""
        self.tokens += tokens
        self.day_tokens += tokens
        self.day_money += money

    def exceeded(self, limits: Limits) -> str:
        """Return the first limit that does not allow another call; empty if all allow it."""
        used = {
            "concurrent_calls": self.calls,
            "requests_per_minute": self.recent_requests,
            "tokens_per_minute": self.recent_tokens,
            "tokens_per_day": self.day_tokens,
            "money_per_day": self.day_money,
        }
        for name in LIMITS:
            limit = getattr(limits, name)
            # The call adds a request. How many tokens it adds is known when it has ended.
            more = 1 if name == "requests_per_minute" else 0
            if limit is not None and (used[name] + more > limit or used[name] >= limit):
                return name
        return ""

    @property
    def recent_requests(self) -> float:
        """The requests of the last 60 seconds."""
        return self.requests + self.earlier_requests * (1 - self._part)

    @property
    def recent_tokens(self) -> float:
        """The tokens of the last 60 seconds."""
        return self.tokens + self.earlier_tokens * (1 - self._part)

    def retry_after(self, name: str, limits: Limits) -> float:
        """Return the seconds until a limit allows another call, if nobody else uses it."""
        if name.endswith("_per_day"):
            return DAY - self.now % DAY
        if name == "requests_per_minute":
            allowed = (limits.requests_per_minute or 0) - 1
            return self._minutes_until(allowed, self.requests, self.earlier_requests) * MINUTE
        if name == "tokens_per_minute":
            # One token below the limit is enough.
            allowed = (limits.tokens_per_minute or 0) - 1
            return self._minutes_until(allowed, self.tokens, self.earlier_tokens) * MINUTE
        return _CALL_RETRY

    def reset_after(self, current: float, earlier: float) -> float:
        """Return the seconds until a minute's count is 0, if nobody uses more."""
        minutes = 2 if current else 1 if earlier else 0
        return max(0.0, (minutes - self._part) * MINUTE)

    def _minutes_until(self, allowed: float, current: float, earlier: float) -> float:
        """Return the minutes until the sliding count is at most ``allowed``."""
        if current <= allowed and earlier:
            return max(0.0, 1 - (allowed - current) / earlier - self._part)
        if allowed <= 0 or not current:
            return 2 - self._part
        return 1 - self._part + max(0.0, 1 - allowed / current)

    @property
    def _part(self) -> float:
        """The part of the current minute that has passed."""
        return self.now / MINUTE - math.floor(self.now / MINUTE)
