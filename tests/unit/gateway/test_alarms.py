import logging

import pytest

from services.gateway.alarms import ALARM, Alarms


def test_an_alarm_holds_until_it_is_cleared(caplog: pytest.LogCaptureFixture) -> None:
    alarms = Alarms()
    with caplog.at_level(logging.WARNING):
        alarms.clear("TOO_HOT")
        assert not caplog.records
        for message in ("90 degrees", "90 degrees", "95 degrees"):
            alarms.set("TOO_HOT", message)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert alarms.active() == [{"reason": "TOO_HOT", "message": "95 degrees"}]
    assert ALARM.labels("TOO_HOT")._value.get() == 1
    alarms.clear("TOO_HOT")
    assert not alarms.active()
    assert ALARM.labels("TOO_HOT")._value.get() == 0
