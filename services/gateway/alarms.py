"""Conditions that an operator must know about, in the log, in a metric and in ``/readyz``."""

import logging

from prometheus_client import Gauge

log = logging.getLogger(__name__)

ALARM = Gauge("memetwin_alarm", "1 while the condition holds that the reason names.", ["reason"])


class Alarms:
    """The conditions that hold now, by their reasons."""

    def __init__(self) -> None:
        self._messages: dict[str, str] = {}

    def set(self, reason: str, message: str) -> bool:
        """Raise an alarm, or change its message. Return whether something has changed.

        Args:
            reason: what the condition is, UPPER_SNAKE.
            message: says what is wrong and what to do. Everybody can read it in ``/readyz``.
        """
        is_new = self._messages.get(reason) != message
        if is_new:
            log.error("alarm: %s", message, extra={"reason": reason})
        self._messages[reason] = message
        ALARM.labels(reason).set(1)
        return is_new

    def clear(self, reason: str) -> None:
        """End an alarm, if there is one."""
        if self._messages.pop(reason, None) is not None:
            log.warning("the alarm has ended", extra={"reason": reason})
            ALARM.labels(reason).set(0)

    def active(self) -> list[dict[str, str]]:
        """Return the reason and the message of each alarm."""
        return [
            {"reason": reason, "message": message} for reason, message in self._messages.items()
        ]
