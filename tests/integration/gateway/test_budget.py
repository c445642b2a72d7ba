import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, chat_pb2, chat_pb2_grpc
from tests.language_model import LanguageModelServer, running
from tests.service_process import ServiceProcess
from tests.stack import Stack, wait_until, wait_until_ready

SEMANTIC, MISS = cache_pb2.DECISION_KIND_SEMANTIC, cache_pb2.DECISION_KIND_MISS
THINGS = """password router phone thermostat keyboard alarm oven modem watch printer scanner tablet
    camera boiler projector doorbell""".split()

STEPS = "Tell me the steps to reset a {}."


class Caller:
    """Calls one gateway for its own tenant, or for the given one."""

    def __init__(self, channel: grpc.Channel, tenant: str = "") -> None:
        self._stub = cache_pb2_grpc.CacheServiceStub(channel)
        self.scope = cache_pb2.Scope(tenant=tenant or str(uuid.uuid4()))

    def store(self, thing: str) -> str:
        request = cache_pb2.CreateEntryRequest(
            scope=self.scope, prompt=f"How do I reset my {thing}?", response=f"Press {thing}."
        )
        return self._stub.CreateEntry(request).entry.id

    def ask(self, thing: str, rate: float, how: str = "How can I reset my {}?") -> Any:
        return self._stub.LookupEntry(
            cache_pb2.LookupEntryRequest(
                scope=self.scope, prompt=how.format(thing), max_error_rate=rate
            )
        ).decision

    def answer(self, thing: str, response: str, how: str = "How can I reset my {}?") -> None:
        self._stub.CreateEntry(
            cache_pb2.CreateEntryRequest(
                scope=self.scope, prompt=how.format(thing), response=response
            )
        )

    def judge(self, entry: str, *, correct: bool, prompt: str = "") -> bool:
        request = cache_pb2.ReportFeedbackRequest(
            scope=self.scope, id=entry, correct=correct, prompt=prompt
        )
        return self._stub.ReportFeedback(request).deleted

    def wrong_ratio(self) -> Any:
        request = cache_pb2.GetStatsRequest(scope=self.scope)
        return self._stub.GetStats(request).tenant_wrong_ratio


@pytest.fixture(scope="module")
def other(stack: Stack, redis_url: str, prefix: str) -> Iterator[ServiceProcess]:
    """A second gateway in its own process."""
    gateway = ServiceProcess(
        "gateway",
        REDIS_URL=redis_url,
        REDIS_PREFIX=prefix,
        EMBEDDER_ADDRESS=stack.embedder_address,
        SEARCH_ADDRESS=stack.search_address,
    )
    grpc.channel_ready_future(gateway.channel).result(60)
    yield gateway
    gateway.close()


def test_a_strict_budget_explores_until_observations_support_a_hit(stack: Stack) -> None:
    caller = Caller(stack.gateway)
    for thing in THINGS:
        caller.store(thing)
    first = caller.ask(THINGS[-1], 0.01, STEPS)
    assert (first.kind, first.miss_reason) == (MISS, cache_pb2.MISS_REASON_EXPLORES)
    for thing in THINGS[:-1]:
        if caller.ask(thing, 0.01, STEPS).kind == MISS:
            caller.answer(thing, f"press  {thing}.", STEPS)
    wait_until(lambda: caller.ask(THINGS[-1], 0.01, STEPS).kind == SEMANTIC, 10)
    served = caller.ask(THINGS[-1], 0.01, STEPS)
    assert served.entry.response == f"Press {THINGS[-1]}."
    assert served.probability_correct > first.probability_correct


def test_wrong_candidates_lower_the_probability(stack: Stack) -> None:
    caller = Caller(stack.gateway)
    for thing in THINGS:
        caller.store(thing)
    for thing in THINGS[:-1]:
        caller.ask(thing, 0.01, STEPS)
        caller.answer(thing, f"Nobody has ever reset a {thing} and lived.", STEPS)
    wait_until(lambda: caller.ask(THINGS[-1], 0.01, STEPS).probability_correct < 0.5, 10)
    assert (
        caller.ask(THINGS[-1], 0.99, STEPS).kind == MISS
    )  # more likely wrong than right: never served


def test_gateways_share_feedback_and_a_restart_keeps_it(
    stack: Stack, other: ServiceProcess
) -> None:
    one = Caller(stack.gateway)
    two = Caller(other.channel, one.scope.tenant)
    for thing in THINGS:
        one.store(thing)
    assert (one.wrong_ratio().value, two.wrong_ratio().high) == (0, 1)
    before = two.ask(THINGS[-1], 0.3).probability_correct
    for thing in THINGS[:4]:
        served = one.ask(thing, 0.3)
        assert served.kind == SEMANTIC
        assert not one.judge(served.entry.id, correct=True)
    served = one.ask(THINGS[4], 0.3)
    assert one.judge(served.entry.id, correct=False)
    again = one.ask(THINGS[4], 0.3)
    assert again.entry.id != served.entry.id
    assert one.wrong_ratio().value == two.wrong_ratio().value == pytest.approx(0.2)
    assert 0 < two.wrong_ratio().low < 0.2 < two.wrong_ratio().high < 1
    # Each replica also heeds the latest lookups that it has seen itself.
    after = two.ask(THINGS[-1], 0.3).probability_correct
    assert after == pytest.approx(one.ask(THINGS[-1], 0.3).probability_correct, abs=0.15)
    assert after != pytest.approx(before)
    other.kill()
    other.start()
    wait_until(lambda: two.wrong_ratio().value == pytest.approx(0.2))
    assert two.ask(THINGS[-1], 0.3).probability_correct == pytest.approx(after, abs=0.15)
    elsewhere = Caller(other.channel)
    assert elsewhere.wrong_ratio().high == 1


def test_feedback_with_the_prompt_teaches_another_gateway(
    stack: Stack, other: ServiceProcess
) -> None:
    one = Caller(stack.gateway)
    two = Caller(other.channel, one.scope.tenant)
    one.store("drone")
    served = one.ask("drone", 0.3).entry.id
    assert served
    two.judge(served, correct=True)
    two.judge(served, correct=True, prompt="How do I reset my drone?")  # an exact hit
    assert two.wrong_ratio().high == 1
    two.judge(served, correct=True, prompt="How can I reset my drone?")
    assert two.wrong_ratio().high < 1


def test_feedback_on_an_exact_hit_teaches_nothing(stack: Stack) -> None:
    caller = Caller(stack.gateway)
    entry = caller.store("fridge")
    assert caller.ask("fridge", 0.3).kind == SEMANTIC
    exact = caller.ask("fridge", 0.3, "How do I reset my {}?")
    assert exact.kind == cache_pb2.DECISION_KIND_EXACT
    caller.judge(entry, correct=True)
    assert caller.wrong_ratio().high == 1


@pytest.fixture(scope="module")
def model() -> Iterator[LanguageModelServer]:
    with running() as one:
        yield one


@pytest.fixture(scope="module")
def chatting(
    redis_url: str, prefix: str, model: LanguageModelServer, tmp_path_factory: Any
) -> Iterator[Stack]:
    file: Path = tmp_path_factory.mktemp("keys") / "keys.json"
    digest = hashlib.sha256(b"careful").hexdigest()
    file.write_text(json.dumps([{"sha256": digest, "tenant": "t", "max_error_rate": 0.3}]))
    running_stack = Stack(
        redis_url, prefix, llm_base_url=model.url, llm_model="p", api_keys_file=str(file)
    )
    wait_until_ready(running_stack)
    yield running_stack
    running_stack.close()


def test_a_hit_under_the_keys_budget_gets_a_shadow_request(
    chatting: Stack, model: LanguageModelServer
) -> None:
    chat: Any = chat_pb2_grpc.ChatServiceStub(chatting.gateway)
    cache: Any = cache_pb2_grpc.CacheServiceStub(chatting.gateway)
    metadata = (("authorization", "Bearer careful"),)
    scope = cache_pb2.Scope(namespace=str(uuid.uuid4()))

    def ask(prompt: str) -> Any:
        messages = [cache_pb2.Message(role="user", content=prompt)]
        request = chat_pb2.Chat(scope=scope, messages=messages)
        return chat.Complete(chat_pb2.CompleteRequest(chat=request), metadata=metadata)

    def wrong_ratio() -> Any:
        stats = cache.GetStats(cache_pb2.GetStatsRequest(scope=scope), metadata=metadata)
        return stats.tenant_wrong_ratio

    first, second = "How do I reset my slow kettle?", "How can I reset my slow kettle?"
    assert ask(first).decision.kind == MISS
    wait_until(lambda: ask(first).decision.kind == cache_pb2.DECISION_KIND_EXACT, 10)
    served = ask(second)
    assert served.decision.kind == SEMANTIC
    assert first in served.message.content
    wait_until(lambda: model.calls[second] == 1, 10)
    wait_until(lambda: wrong_ratio().high < 1, 10)
    exact = cache_pb2.DECISION_KIND_EXACT
    wait_until(lambda: ask(second).decision.kind == exact, 10)  # the shadow answer is stored
    assert second in ask(second).message.content
