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
    """A chat with its own backends, which a test can stop."""

    def __init__(self, redis_url: str, prefix: str, model: LanguageModelServer) -> None:
        own = {"REDIS_URL": redis_url, "REDIS_PREFIX": f"{prefix}open-{uuid.uuid4()}:"}
        self.embedder = EmbedderProcess(os.environ)
        self.search = ServiceProcess("search", **own)
        own |= {"LLM_BASE_URL": model.url, "LLM_MODEL": "parrot"}
        own |= {"SEARCH_ADDRESS": self.search.address, "EMBEDDER_ADDRESS": self.embedder.address}
        self.gateway = ServiceProcess("gateway", **own)
        self._chat: Any = chat_pb2_grpc.ChatServiceStub(self.gateway.channel)
        wait_until(lambda: self.ask("warm") == "EXACT", 120)

    def ask(self, text: str) -> str:
        """Return the cache's decision. The answer is always the model's."""
        message = cache_pb2.Message(role="user", content=text)
        request = chat_pb2.CompleteRequest(chat=chat_pb2.Chat(messages=[message]))
        reply = self._chat.Complete(request, timeout=30)
        assert reply.message.content == quote(text)
        return cache_pb2.DecisionKind.Name(reply.decision.kind).rpartition("_")[2]

    def process(self, name: str) -> int:
        return self.embedder.process.pid if name == "embedder" else self.search.pid

    def close(self) -> None:
        for name in ("embedder", "search"):
            os.kill(self.process(name), signal.SIGCONT)
        self.gateway.close()
        self.search.close()
        self.embedder.stop()


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
def test_the_model_answers_while_a_neighbour_is_silent(backends: Any, name: str) -> None:
    assert backends.ask(unknown()) == "MISS"
    os.kill(backends.process(name), signal.SIGSTOP)
    assert backends.ask("warm") == "EXACT"  # Redis alone serves it
    assert {backends.ask(unknown()) for _ in range(20)} == {"BYPASS"}
    os.kill(backends.process(name), signal.SIGCONT)
    wait_until(lambda: backends.ask(unknown()) == "MISS", 30)


@pytest.mark.parametrize("name", ["embedder", "search"])
def test_the_model_answers_while_a_neighbour_is_gone(backends: Any, name: str) -> None:
    text = unknown()
    assert backends.ask(text) == "MISS"
    wait_until(lambda: backends.ask(text) == "EXACT", 10)
    os.kill(backends.process(name), signal.SIGKILL)
    assert backends.ask(text) == "EXACT"
    assert {backends.ask(unknown()) for _ in range(10)} == {"BYPASS"}
