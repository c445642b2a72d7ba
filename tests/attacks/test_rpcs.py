"""Every rpc with an attacker's key and the names of another tenant's data."""

import dataclasses
import itertools
import re
from typing import Any

import grpc
import pytest

from tests.attacks.contract import Reply, call, deletes, methods, name_of, sends_the_marker
from tests.attacks.names import GHOST, MARKER, SECRET, Names
from tests.attacks.requests import variants
from tests.attacks.world import ATTACKER, CONTROL, World

# Rpcs that still reveal or change another tenant's data, and what is missing.
OPEN: dict[str, str] = {}
# Rpcs that need more than names: many labels or documents, a cross-encoder, or a free name.
UNANSWERED = {
    *("CacheService/Calibrate", "RagService/CalibrateRefusals", "EmbedderService/Rerank"),
    *("SearchService/CreateCollection", "SearchService/ImportCollection"),
    "SearchService/TuneIndex",
}
# What the contract lets anybody call.
KEYLESS = frozenset({"Health/Check", "Health/List", "Health/Watch"})
METHODS = [pytest.param(method, id=name_of(method)) for method in methods()]


def attacks(method: Any, names: Names) -> list[list[Any]]:
    """Return the requests that name data of a tenant, with and without claiming the tenant."""
    claiming = dataclasses.replace(names, claims_tenant=True)
    found = variants(method, names)
    return found + [one for one in variants(method, claiming) if one not in found]


@pytest.mark.parametrize("method", METHODS)
def test_another_tenants_data_is_secret_and_unchanged_and_looks_like_none(
    world: World, method: Any, request: pytest.FixtureRequest
) -> None:
    if name_of(method) in OPEN:
        request.applymarker(pytest.mark.xfail(strict=True, reason=OPEN[name_of(method)]))
    before = world.victims_data()
    real, ghost = (attacks(method, names) for names in (world.victim, world.ghost))
    for pair in zip(real, ghost, strict=True):
        one, other = (call(world.stack.gateway, method, asked, ATTACKER) for asked in pair)
        require_no_secret(world, one, pair[0])
        assert seen(one) == seen(other), pair
        assert not world.changes(before), pair[0]


def test_the_gateway_serves_every_rpc(world: World) -> None:
    for method in methods():
        [requests, *_] = variants(method, world.ghost)
        reply = call(world.stack.gateway, method, requests, CONTROL)
        assert reply.code is not grpc.StatusCode.UNIMPLEMENTED, name_of(method)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_answers_without_a_key(world: World, method: Any) -> None:
    if name_of(method) not in KEYLESS:
        for requests in attacks(method, world.victim):
            for key in ("", "unknown-key"):
                reply = call(world.stack.gateway, method, requests, key)
                assert reply.code is grpc.StatusCode.UNAUTHENTICATED, reply
                require_no_secret(world, reply, requests)


def test_the_attacks_succeed_against_the_callers_own_data(world: World) -> None:
    """The requests are valid: with the owner's key, most of them are answered."""
    names, failed = world.control, {}
    for method in methods():
        replies = [
            call(world.stack.gateway, method, requests, CONTROL)
            for requests in variants(method, names)
        ]
        if not any(reply.code is grpc.StatusCode.OK for reply in replies):
            failed[name_of(method)] = replies
        if deletes(method.name):
            names = world.seed(CONTROL)
    assert failed.keys() <= UNANSWERED, failed


def require_no_secret(world: World, reply: Reply, requests: list[Any]) -> None:
    assert SECRET.encode() not in reply.content, reply
    assert world.victim.picture[-200:] not in reply.content, "the picture"
    if not sends_the_marker(requests):
        assert MARKER.encode() not in reply.content, reply


def seen(reply: Reply) -> str:
    """Return a reply without the names that the caller sent, ids, times and scores."""
    return seen_text(
        f"{reply.code.name} {reply.reason} {reply.message}\n"
        + "\n".join(str(one) for one in reply.messages)
    )


def seen_text(text: str) -> str:
    """Return a text without names, ids, vectors and numbers."""
    text = text.replace(MARKER, "NAME").replace(GHOST, "NAME")
    text = re.sub(r'vectors?: ".*"', "VECTOR", text)
    text = re.sub(r"-?\d+\.\d+(e-?\d+)?", "N", text)
    text = re.sub(r"[0-9a-f]{16,}", "ID", text)
    lines = re.sub(r"-?\d+", "N", text).splitlines()
    return "\n".join(line for line, _ in itertools.groupby(lines))  # as many tokens as there are
