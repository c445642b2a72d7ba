import json
import logging
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import start_http_server

from services import telemetry
from services.settings import CommonSettings


def record(message: str, **extra: Any) -> logging.LogRecord:
    one = logging.LogRecord("services.x", logging.WARNING, __file__, 7, message, None, None)
    one.created, one.msecs = 0.0625, 62.5
    one.__dict__.update(extra)
    return one


def line(one: logging.LogRecord) -> dict[str, Any]:
    text = telemetry.JsonLines().format(one)
    assert "\n" not in text
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_a_record_is_one_line_of_json_with_its_extra_keys() -> None:
    assert line(record("two\nlines", model="m", seconds=1.5)) == {
        "time": "1970-01-01T00:00:00.062Z",
        "level": "WARNING",
        "logger": "services.x",
        "message": "two\nlines",
        "model": "m",
        "seconds": 1.5,
    }


def test_what_json_cannot_hold_is_written_as_text() -> None:
    assert line(record("m", error=ValueError("bad")))["error"] == "bad"


def test_an_exception_comes_with_its_traceback() -> None:
    one = record("failed")
    try:
        raise ValueError("bad")
    except ValueError:
        one.exc_info = sys.exc_info()
    assert "ValueError: bad" in line(one)["exception"]


def test_no_secret_is_logged() -> None:
    formatter = telemetry.JsonLines(['pa"ss', "k3y"])
    one = record('GET redis://:pa"ss@host', header=b"Bearer k3y", settings={"k3y": ['pa"ss']})
    try:
        raise ValueError("k3y")
    except ValueError:
        one.exc_info = sys.exc_info()
    text = formatter.format(one)
    assert "k3y" not in text
    assert "pa" not in text.replace("path", "")
    assert json.loads(text)["message"] == "GET redis://:***@host"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, restored at the end."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    for handler in handlers:
        logger.removeHandler(handler)
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_the_level_is_set_and_logs_go_to_stderr(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.set_up(CommonSettings(log_level="warning"))
    logging.getLogger("services.x").info("quiet")
    logging.getLogger("services.x").warning("loud")
    [written] = capsys.readouterr().err.splitlines()
    assert json.loads(written)["message"] == "loud"


def test_metrics_are_served_where_the_settings_say(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = []

    def recorded(port: int, host: str) -> Any:
        servers.append(start_http_server(port, host))
        return servers[-1]

    monkeypatch.setattr("services.telemetry.start_http_server", recorded)
    telemetry.set_up(CommonSettings(metrics_listen="127.0.0.1:0"))
    [(server, thread)] = servers
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as reply:
            assert b"memetwin_rpc_seconds" in reply.read()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
