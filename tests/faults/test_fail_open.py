"""The chat while search or the embedder is down or silent: the model answers."""

import os
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from memetwin.gateway.v1 import cache_pb2, chat_pb2, chat_pb2_grpc
from tests.embedder_process import EmbedderProcess
from tests.language_model import LanguageModelServer, quote, running
from tests.service_process import ServiceProcess
from tests.stack import wait_until


class Backends:
    """Gateways with their own embedder and search, which a test can stop."""

    def __init__(
        self, redis_url: str, prefix: str, model: LanguageModelServer, replicas: int = 1
    ) -> None:
        own = {"REDIS_URL": redis_url, "REDIS_PREFIX": f"{prefix}open-{uuid.uuid4()}:"}
        self.embedder = EmbedderProcess(os.environ)
        self.search = ServiceProcess("search", **own)
        own |= {"LLM_BASE_URL": model.url, "LLM_MODEL": "parrot"}
        own |= {"SEARCH_ADDRESS": self.search.address, "EMBEDDER_ADDRESS": self.embedder.address}
        self.gateways = [ServiceProcess("gateway", **own) for _ in range(replicas)]
        self.stubs: list[Any] = [
            chat_pb2_grpc.ChatServiceStub(gateway.channel) for gateway in self.gateways
        ]
        for stub in self.stubs:
            wait_until(lambda stub=stub: kind_of(send(stub, "warm").result()) == "EXACT", 120)

    def ask(self, text: str) -> tuple[str, str]:
        """Return the cache's decision and the reason of a miss. The answer is the model's."""
        reply = send(self.stubs[0], text).result()
        assert reply.message.content == quote(text)
        reason = cache_pb2.MissReason.Name(reply.decision.miss_reason)
        return kind_of(reply), reason.removeprefix("MISS_REASON_")

    def process(self, name: str) -> int:
        return self.embedder.process.pid if name == "embedder" else self.search.pid

    def close(self) -> None:
        for name in ("embedder", "search"):
            os.kill(self.process(name), signal.SIGCONT)
        for gateway in self.gateways:
            gateway.close()
        self.search.close()
        self.embedder.stop()


def send(stub: Any, text: str, **cache: Any) -> Any:
    """Ask without waiting for the reply."""
    message = cache_pb2.Message(role="user", content=text)
    chat = chat_pb2.Chat(messages=[message], cache=chat_pb2.ChatCache(**cache))
    return stub.Complete.future(chat_pb2.CompleteRequest(chat=chat), timeout=60)


def kind_of(reply: Any) -> str:
    """Return the kind of the cache's decision."""
    return cache_pb2.DecisionKind.Name(reply.decision.kind).rpartition("_")[2]


@pytest.fixture
def model() -> Iterator[LanguageModelServer]:
    with running() as one:
        yield one


@pytest.fixture
def backends(redis_url: str, prefix: str, model: LanguageModelServer) -> Iterator[Backends]:
    one = Backends(redis_url, prefix, model)
    yield one
    one.close()


def unknown() -> str:
    return f"What is {uuid.uuid4()}?"


@pytest.mark.parametrize("name", ["embedder", "search"])
def test_the_exact_tier_works_while_a_neighbour_is_silent(backends: Any, name: str) -> None:
    assert backends.ask(unknown())[0] == "MISS"
    os.kill(backends.process(name), signal.SIGSTOP)
    assert backends.ask("warm")[0] == "EXACT"
    assert {backends.ask(unknown()) for _ in range(20)} == {("MISS", "UNAVAILABLE")}
    text = unknown()
    backends.ask(text)
    wait_until(lambda: backends.ask(text)[0] == "EXACT", 10)
    os.kill(backends.process(name), signal.SIGCONT)
    wait_until(lambda: backends.ask(unknown())[1] != "UNAVAILABLE", 30)


@pytest.mark.parametrize("name", ["embedder", "search"])
def test_the_exact_tier_works_while_a_neighbour_is_gone(backends: Any, name: str) -> None:
    text = unknown()
    assert backends.ask(text)[0] == "MISS"
    wait_until(lambda: backends.ask(text)[0] == "EXACT", 10)
    os.kill(backends.process(name), signal.SIGKILL)
    assert backends.ask(text)[0] == "EXACT"
    texts = [unknown() for _ in range(10)]
    assert {backends.ask(one) for one in texts} == {("MISS", "UNAVAILABLE")}
    for one in texts:
        wait_until(lambda one=one: backends.ask(one)[0] == "EXACT", 10)


def test_answers_stored_without_the_embedder_are_indexed_once_it_works_again(
    backends: Backends,
) -> None:
    text = unknown()
    os.kill(backends.process("embedder"), signal.SIGSTOP)
    backends.ask(text)
    wait_until(lambda: backends.ask(text)[0] == "EXACT", 10)
    os.kill(backends.process("embedder"), signal.SIGCONT)
    near = text.replace("What is", "what is")
    wait_until(
        lambda: kind_of(send(backends.stubs[0], near, no_store=True).result()) == "SEMANTIC", 60
    )


def test_identical_chats_make_one_call_while_the_embedder_is_frozen(
    redis_url: str, prefix: str, model: LanguageModelServer
) -> None:
    backends = Backends(redis_url, prefix, model, replicas=3)
    try:
        os.kill(backends.process("embedder"), signal.SIGSTOP)
        text = unknown()
        sent = [send(backends.stubs[one % 3], text) for one in range(100)]
        replies = [one.result() for one in sent]
        assert {reply.message.content for reply in replies} == {quote(text)}
        assert model.calls[text] == 1
        for stub in backends.stubs:
            wait_until(lambda stub=stub: kind_of(send(stub, text).result()) == "EXACT", 20)
        assert model.calls[text] == 1
    finally:
        backends.close()
