import json
import time

import pytest

from services import error_details
from services.errors import (
    FailedPrecondition,
    Failure,
    InvalidArgument,
    NotFound,
    Overloaded,
    Unavailable,
)
from services.gateway.llm.errors import UpstreamError, refused, unavailable, upstream_error

ERROR = {"message": "Too long.", "type": "invalid_request_error", "param": "n", "code": "length"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidArgument),
        (404, FailedPrecondition),
        (413, InvalidArgument),
        (422, InvalidArgument),
        (429, Overloaded),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_the_status_decides_the_kind(status: int, kind: type[Failure]) -> None:
    failure = refused(status, b"")
    assert type(failure) is kind
    assert failure.reason == "LANGUAGE_MODEL_REFUSED"
    upstream = upstream_error(failure)
    assert upstream is not None
    assert upstream.status == status


@pytest.mark.parametrize("value", [{"error": ERROR}, {"object": "error", **ERROR}])
def test_openais_error_fields_are_kept(value: object) -> None:
    failure = refused(400, json.dumps(value).encode())
    assert upstream_error(failure) == UpstreamError(400, **ERROR)


@pytest.mark.parametrize("value", [{"error": "No."}, {"detail": "No."}, {"message": "No."}])
def test_a_message_alone_is_kept(value: object) -> None:
    assert upstream_error(refused(400, json.dumps(value).encode())) == UpstreamError(400, "No.")


@pytest.mark.parametrize("body", [b"<html>secret</html>", b"", b"[1]", b"\xff", b'{"error": [1]}'])
def test_any_other_body_is_not_passed_on(body: bytes) -> None:
    failure = refused(502, body)
    upstream = upstream_error(failure)
    assert upstream == UpstreamError(502, failure.message)
    assert "secret" not in str(vars(failure))


@pytest.mark.parametrize("letter", ["x", "é", "字", "🙂"])
def test_the_fields_are_bounded_in_bytes_and_fit_into_the_trailers(letter: str) -> None:
    error = dict.fromkeys(ERROR, letter * 5000)
    failure = refused(400, json.dumps({"error": error}).encode())
    upstream = upstream_error(error_details.from_dict(error_details.to_dict(failure)))
    assert upstream == upstream_error(failure)
    assert upstream is not None
    size = len(letter.encode())
    assert upstream.message == letter * (2048 // size)
    assert upstream.type == upstream.param == upstream.code == letter * (128 // size)
    trailers = error_details.trailers(failure)
    assert sum(len(name) + len(value) * 4 / 3 for name, value in trailers) < 8192


def test_a_long_body_is_logged_in_part(caplog: pytest.LogCaptureFixture) -> None:
    refused(500, "字\xff".encode() * 5000 + b"\xff" * 5000)
    assert len(vars(caplog.records[0])["body"].encode()) <= 1024


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 01 Jan 9999 00:00:00 GMT"}, 86_400.0),
        ({"retry-after": "Wed, 99 Oct 2015"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "9" * 400}, 86_400.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "3"}, 3.0),
    ],
)
def test_the_retry_hint_is_in_seconds(headers: dict[str, str], seconds: float | None) -> None:
    assert refused(429, b"", headers).retry_after == seconds


def test_a_retry_hint_may_be_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1445412470.5)
    headers = {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert refused(503, b"", headers).retry_after == 9.5


@pytest.mark.parametrize("status", [401, 403, 407])
def test_refused_credentials_are_those_of_the_gateway(status: int) -> None:
    body = json.dumps({"error": {"message": "Incorrect API key: sk-…42"}}).encode()
    failure = refused(status, body, {"x-request-id": "r"})
    assert (failure.reason, type(failure)) == ("LANGUAGE_MODEL_MISCONFIGURED", FailedPrecondition)
    assert failure.metadata == {"status": str(status)}
    assert upstream_error(failure) is None


def test_the_id_of_the_request_is_kept() -> None:
    assert refused(500, b"", {"x-request-id": "r"}).metadata["upstream_request_id"] == "r"
    for odd in ("", "a\nb", "ü", "r" * 200):
        assert "upstream_request_id" not in refused(500, b"", {"x-request-id": odd}).metadata


def test_other_failures_are_not_the_servers() -> None:
    assert upstream_error(unavailable()) is None
    assert upstream_error(NotFound("GONE", "It is gone.", status=400)) is None
