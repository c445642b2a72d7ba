import json

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
        (401, FailedPrecondition),
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
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("²", None),
        ("9" * 400, 86_400.0),
    ],
)
def test_the_retry_hint_is_in_seconds(header: str, seconds: float | None) -> None:
    assert refused(429, b"", header).retry_after == seconds


def test_other_failures_are_not_the_servers() -> None:
    assert upstream_error(unavailable()) is None
    assert upstream_error(NotFound("GONE", "It is gone.", status=400)) is None
