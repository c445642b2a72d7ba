import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from services.errors import KINDS, Failure, InvalidArgument, NotFound, Overloaded, Unauthenticated
from services.gateway.http.errors import (
    error_response,
    failure_response,
    handle_failure,
    handle_timeout,
    openai_error,
    openai_error_response,
    receipts_response,
)
from services.gateway.llm.errors import refused

REQUEST = Request({"type": "http"})


def body(response: Response) -> Any:
    return json.loads(bytes(response.body))["error"]


@pytest.mark.parametrize("kind", [Failure, *KINDS])
def test_every_kind_has_the_same_status_in_both_shapes(kind: type[Failure]) -> None:
    failure = kind("REASON", "A message.")
    statuses = {respond(failure).status_code for respond in (error_response, openai_error_response)}
    [status] = statuses
    assert 400 <= status < 600
    assert (status == 500) == (kind is Failure)


@pytest.mark.parametrize("respond", [error_response, openai_error_response])
def test_a_refusal_without_credentials_names_the_scheme(respond: Any) -> None:
    refused = respond(Unauthenticated("UNKNOWN_API_KEY", "Send a key."))
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "www-authenticate" not in respond(NotFound("GONE", "It is gone.")).headers


def test_our_shape_has_all_parts() -> None:
    response = error_response(NotFound("GONE", "It is gone.", field="id", id=7))
    assert response.status_code == 404
    assert body(response) == {
        "code": "NOT_FOUND",
        "reason": "GONE",
        "message": "It is gone.",
        "field": "id",
        "metadata": {"id": "7"},
    }


def test_openais_shape_has_all_parts() -> None:
    response = openai_error_response(InvalidArgument("BAD_INPUT", "It is bad.", field="input"))
    assert response.status_code == 400
    assert body(response) == {
        "message": "It is bad.",
        "type": "invalid_request_error",
        "param": "input",
        "code": "bad_input",
    }


@pytest.mark.parametrize("respond", [error_response, openai_error_response])
def test_the_retry_hint_is_a_header_of_whole_seconds(respond: Any) -> None:
    assert "retry-after" not in respond(Overloaded("FULL", "Wait.")).headers
    assert "retry-after-ms" not in respond(Overloaded("FULL", "Wait.", retry_after=2.0)).headers
    for seconds, header, milliseconds in [(0.1, "1", "100"), (2.6, "3", "2600")]:
        headers = respond(Overloaded("FULL", "Wait.", retry_after=seconds)).headers
        assert (headers["retry-after"], headers["retry-after-ms"]) == (header, milliseconds)


@pytest.mark.parametrize("respond", [error_response, openai_error_response])
def test_refused_credentials_of_the_gateway_are_a_bad_gateway(respond: Any) -> None:
    response = respond(refused(401, b'{"error": {"message": "secret"}}'))
    assert response.status_code == 502
    assert b"secret" not in response.body


@pytest.mark.parametrize("respond", [error_response, openai_error_response])
def test_the_id_of_the_language_model_servers_request_is_passed_on(respond: Any) -> None:
    assert respond(refused(500, b"", {"x-request-id": "r"})).headers["x-request-id"] == "r"


@pytest.mark.parametrize(
    ("status", "usual"),
    [
        (400, "invalid_request_error"),
        (402, "invalid_request_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (503, "server_error"),
    ],
)
def test_a_refusal_of_the_language_model_server_keeps_its_own_status(
    status: int, usual: str
) -> None:
    error = {"message": "No.", "type": "own", "param": "n", "code": "own_code"}
    response = openai_error_response(refused(status, json.dumps({"error": error}).encode()))
    assert (response.status_code, body(response)) == (status, error)
    bare = refused(status, b"<html>")
    assert openai_error(bare)["error"] == {
        "message": bare.message,
        "type": usual,
        "param": None,
        "code": None,
    }


def test_a_batch_is_an_error_only_if_all_of_it_has_failed() -> None:
    late, gone = Overloaded("FULL", "Wait.", retry_after=2.0), NotFound("GONE", "It is gone.")
    rows = [{"id": "a"}, {"id": "b"}]
    for receipts, failures in ([], []), (rows, [gone]), (rows, []):
        response = receipts_response(receipts, failures)
        assert (response.status_code, json.loads(bytes(response.body))) == (
            200,
            {"receipts": receipts},
        )
    response = receipts_response(rows, [gone, late])
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    content = json.loads(bytes(response.body))
    assert (content["receipts"], content["error"]["reason"]) == (rows, "FULL")


@pytest.mark.parametrize(
    ("path", "is_ours"),
    [
        ("/v1/chat/completions", False),
        ("/v1/nothing", False),
        ("/v1", False),
        ("/v1/", False),
        ("/v1/ask", True),
        ("/v1/documents/a", True),
        ("/v1/twins", True),
        ("/v1/feedback", True),
        ("/", True),
        ("", True),
        ("/v1x", True),
    ],
)
def test_the_path_decides_the_shape(path: str, is_ours: bool) -> None:
    response = failure_response(path, NotFound("GONE", "It is gone."))
    assert ("reason" in body(response)) == is_ours


async def test_handlers_answer_in_our_shape() -> None:
    response = await handle_failure(REQUEST, NotFound("GONE", "It is gone."))
    assert (response.status_code, body(response)["reason"]) == (404, "GONE")
    late = await handle_timeout(REQUEST, TimeoutError())
    assert (late.status_code, body(late)["reason"]) == (504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("respond", [error_response, openai_error_response])
def test_a_body_that_is_too_large_has_its_own_status(respond: Any) -> None:
    response = respond(InvalidArgument("BODY_TOO_LARGE", "Send a smaller one."))
    assert response.status_code == 413
