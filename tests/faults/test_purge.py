"""Purged entries disappear from all replicas at once, and stay gone after restarts."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, chat_pb2, chat_pb2_grpc
from tests.language_model import LanguageModelServer, running
from tests.redis_server import RedisServer
from tests.service_process import ServiceProcess
from tests.stack import Stack, wait_until, wait_until_ready

SCOPE = cache_pb2.Scope(tenant="acme")
PROMPTS = [f"How do {animal} sleep?" for animal in "otters lynxes herons newts bats".split()]
PROMPTS += [f"What do {animal} eat?" for animal in "moles stoats adders owls hares".split()]
STALE, FRESH = PROMPTS[::2], PROMPTS[1::2]
MODES = (cache_pb2.LOOKUP_MODE_EXACT, cache_pb2.LOOKUP_MODE_SEMANTIC)


@pytest.fixture
def language_model() -> Iterator[LanguageModelServer]:
    with running() as one:
        yield one


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    one = RedisServer(tmp_path)
    yield one
    one.stop()


@pytest.fixture
def replicas(
    server: RedisServer, language_model: LanguageModelServer
) -> Iterator[list[ServiceProcess]]:
    """Two gateways on one Redis."""
    stack = Stack(server.url, "purge:")
    wait_until_ready(stack)
    model = {"LLM_BASE_URL": language_model.url, "LLM_MODEL": "parrot"}
    settings = {"REDIS_URL": server.url, "REDIS_PREFIX": "purge:", **model}
    settings |= {"EMBEDDER_ADDRESS": stack.embedder_address, "SEARCH_ADDRESS": stack.search_address}
    started = [ServiceProcess("gateway", **settings) for _ in range(2)]
    for one in started:
        wait_until(lambda one=one: hits(one, ["warm"]) == [])
    yield started
    for one in started:
        one.close()
    stack.close()


def stub(replica: ServiceProcess) -> Any:
    return cache_pb2_grpc.CacheServiceStub(replica.channel)


def hits(replica: ServiceProcess, prompts: list[str]) -> list[str]:
    """Look up in both tiers; return the prompts that got their own answers."""
    found = []
    for prompt in prompts:
        for mode in MODES:
            lookup = cache_pb2.LookupEntryRequest(scope=SCOPE, prompt=prompt, mode=mode)
            entry = stub(replica).LookupEntry(lookup, timeout=30).decision.entry
            found += [prompt] if entry.response == f"answer to {prompt}" else []
    return found


def fill(replica: ServiceProcess) -> None:
    for prompt in PROMPTS:
        cites = ["documents/old" if prompt in STALE else "documents/new"]
        create = cache_pb2.CreateEntryRequest(
            scope=SCOPE, prompt=prompt, response=f"answer to {prompt}", cites=cites
        )
        stub(replica).CreateEntry(create, timeout=30)


def purge(replica: ServiceProcess) -> int:
    wanted = cache_pb2.PurgeFilter(cites=["documents/old"])
    request = cache_pb2.PurgeEntriesRequest(scope=SCOPE, filter=wanted, force=True)
    return int(stub(replica).PurgeEntries(request, timeout=30).count)


def check(replicas: list[ServiceProcess]) -> None:
    for one in replicas:
        assert hits(one, STALE) == []
        assert hits(one, FRESH) == [prompt for prompt in FRESH for _ in MODES]


def test_no_replica_serves_what_was_purged_(
    server: RedisServer, replicas: list[ServiceProcess]
) -> None:
    fill(replicas[0])
    for one in replicas:
        assert hits(one, PROMPTS) == [prompt for prompt in PROMPTS for _ in MODES]
    assert purge(replicas[1]) == len(STALE)
    check(replicas)
    for one in replicas:
        one.kill()
        one.start()
    wait_until(lambda: [hits(one, ["warm"]) for one in replicas] == [[], []])
    check(replicas)
    server.kill()
    server.start()
    wait_until(lambda: [hits(one, ["warm"]) for one in replicas] == [[], []])
    check(replicas)


def test_while_replicas_are_asked_none_serves_what_was_purged_before(
    replicas: list[ServiceProcess],
) -> None:
    purged = False

    def ask(replica: ServiceProcess) -> list[tuple[bool, list[str]]]:
        answers: list[tuple[bool, list[str]]] = []
        while not answers or sum(before for before, _ in answers) < 5:
            answers.append((purged, hits(replica, STALE[:2])))
        return answers

    with ThreadPoolExecutor() as pool:
        fill(replicas[0])
        answers = [pool.submit(ask, one) for one in replicas * 2]
        purge(replicas[0])
        purged = True
        for one in answers:
            assert all(found == [] for before, found in one.result(60) if before)


def test_an_answer_on_its_way_is_not_kept_by_another_replica(
    replicas: list[ServiceProcess], language_model: LanguageModelServer
) -> None:
    text = f"What is {uuid.uuid4()}?"
    language_model.hold(text)
    message = cache_pb2.Message(role="user", content=text)
    request = chat_pb2.CompleteRequest(chat=chat_pb2.Chat(messages=[message], scope=SCOPE))
    chats = [chat_pb2_grpc.ChatServiceStub(one.channel) for one in replicas]
    with ThreadPoolExecutor() as pool:
        on_its_way = pool.submit(chats[0].Complete, request, timeout=30)
        wait_until(lambda: language_model.calls[text] == 1)
        purge(replicas[1])
        language_model.release(text)
        on_its_way.result(30)
    request.chat.cache.no_store = True  # so that the first replica stores nothing for the second
    for one in chats:
        kind = one.Complete(request, timeout=30).decision.kind
        assert kind == cache_pb2.DECISION_KIND_MISS
    assert language_model.calls[text] == 3
