import time

import grpc
import pytest

from services.errors import Failure, NotFound, Unavailable
from services.gateway.backends import rpc
from services.gateway.backends.rpc import Peer
from services.gateway.circuit_breaker import FAILURE_THRESHOLD, OPEN_SECONDS
from tests.fakes.grpc import rpc_error

CODE = grpc.StatusCode


async def fail(peer: Peer, error: Exception) -> Failure:
    with pytest.raises(Failure) as caught:
        async with peer.call():
            raise error
    return caught.value


async def is_open(peer: Peer) -> bool:
    try:
        async with peer.call():
            return False
    except Unavailable:
        return True


async def open_with(peer: Peer, code: grpc.StatusCode, reason: str = "") -> bool:
    """Return whether failures of a code open the breaker."""
    for _ in range(FAILURE_THRESHOLD):
        await fail(peer, rpc_error(code, reason))
    return await is_open(peer)


@pytest.mark.parametrize("reason", ["", "REDIS_UNAVAILABLE"])
async def test_a_service_that_is_unavailable_is_not_called_for_a_while(reason: str) -> None:
    peer = Peer("search")
    assert await open_with(peer, CODE.UNAVAILABLE, reason)
    failure = await fail(peer, AssertionError("the breaker is open"))
    assert failure.reason == "NEIGHBOUR_UNAVAILABLE"
    assert failure.metadata == {"peer": "search"}
    assert failure.retry_after is not None
    assert 0 < failure.retry_after <= OPEN_SECONDS


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (CODE.INVALID_ARGUMENT, "BAD_VECTOR"),
        (CODE.NOT_FOUND, "COLLECTION_NOT_FOUND"),
        (CODE.FAILED_PRECONDITION, "MODEL_DIFFERS"),
        (CODE.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
        (CODE.INTERNAL, "INTERNAL"),
        (CODE.UNAVAILABLE, "MODEL_LOADING"),
        (CODE.DEADLINE_EXCEEDED, ""),  # at once: the caller's deadline was short
    ],
)
async def test_what_one_caller_causes_does_not_open_the_breaker(
    code: grpc.StatusCode, reason: str
) -> None:
    assert not await open_with(Peer("embedder"), code, reason)


async def test_a_service_that_times_out_opens_the_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: 2.0 * next(ticks))
    assert await open_with(Peer("embedder"), CODE.DEADLINE_EXCEEDED)


async def test_an_answer_closes_the_breaker() -> None:
    peer = Peer("embedder")
    for _ in range(3):
        for _ in range(FAILURE_THRESHOLD - 1):
            await fail(peer, rpc_error(CODE.UNAVAILABLE))
        assert not await is_open(peer)


async def test_another_error_passes() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Peer("embedder").call():
            raise ZeroDivisionError


async def test_callers_see_their_own_names_of_collections() -> None:
    error = rpc_error(CODE.NOT_FOUND, "COLLECTION_NOT_FOUND")
    failure = await fail(Peer("search"), error)
    assert failure.reason == "COLLECTION_NOT_FOUND"
    tenant = f"tenant-{'0a' * 16}-"
    for prefix in ("", "documents-", f"reembedded-{'0a' * 6}-"):
        for owner in ("", tenant):
            name = f"{owner}{prefix}notes"
            found = rpc._with_plain_names(NotFound("X", f"There is no {name}.", collection=name))
            assert found.message == "There is no notes."
            assert found.metadata == {"collection": "notes"}
    other = NotFound("X", "There is no documents-1.", document="documents-1", collection="pages")
    assert rpc._with_plain_names(other).message == "There is no documents-1."
    assert other.metadata["document"] == "documents-1"


async def test_a_refused_service_token_is_not_the_callers_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failure = await fail(Peer("search"), rpc_error(CODE.UNAUTHENTICATED, "UNKNOWN_SERVICE_TOKEN"))
    assert (failure.code, failure.reason) == (CODE.UNAVAILABLE, "SERVICE_TOKEN_REFUSED")
    assert "the search service refuses this gateway" in caplog.text
