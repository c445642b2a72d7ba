import time
import uuid
from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from tests.refusals import refusal
from tests.stack import Stack, wait_until

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Lookup = cache_pb2.LookupEntryRequest
QUESTION = "How do I reset my password?"
PARAPHRASE = "How can I reset my password?"


@pytest.fixture(scope="module")
def cache(stack: Stack) -> cache_pb2_grpc.CacheServiceStub:
    return cache_pb2_grpc.CacheServiceStub(stack.gateway)


@pytest.fixture
def scope() -> cache_pb2.Scope:
    return cache_pb2.Scope(tenant=str(uuid.uuid4()))


def store(cache: Any, scope: Any, prompt: str = QUESTION, **fields: Any) -> Any:
    request = cache_pb2.CreateEntryRequest(
        scope=scope, prompt=prompt, **{"response": "Press the button."} | fields
    )
    return cache.CreateEntry(request).entry


def kind(decision: Any) -> str:
    return cache_pb2.DecisionKind.Name(decision.kind).rpartition("_")[2]


def test_tiers_of_the_cache(cache: Any, scope: Any) -> None:
    entry = store(cache, scope)
    exact = cache.LookupEntry(Lookup(scope=scope, prompt=QUESTION)).decision
    assert (kind(exact), exact.entry.response) == ("EXACT", "Press the button.")
    near = cache.LookupEntry(Lookup(scope=scope, prompt=PARAPHRASE, min_similarity=0.9)).decision
    assert (kind(near), near.entry.id) == ("SEMANTIC", entry.id)
    assert 0.9 < near.similarity <= 1
    assert 0.5 < near.probability_correct < 1
    far = cache.LookupEntry(Lookup(scope=scope, prompt="What is the weather?")).decision
    assert (kind(far), far.miss_reason) == ("MISS", cache_pb2.MISS_REASON_NOT_SIMILAR)
    only = cache_pb2.LOOKUP_MODE_EXACT
    missed = cache.LookupEntry(Lookup(scope=scope, prompt=PARAPHRASE, mode=only)).decision
    assert missed.miss_reason == cache_pb2.MISS_REASON_NOT_EXACT


def test_zero_is_a_legal_bound(cache: Any, scope: Any) -> None:
    store(cache, scope)
    found = cache.LookupEntry(Lookup(scope=scope, prompt="password", min_similarity=0)).decision
    assert kind(found) == "SEMANTIC"


def test_an_error_rate_bounds_hits(cache: Any, scope: Any) -> None:
    store(cache, scope)
    loose = cache.LookupEntry(Lookup(scope=scope, prompt=PARAPHRASE, max_error_rate=0.5))
    strict = cache.LookupEntry(Lookup(scope=scope, prompt=PARAPHRASE, max_error_rate=0.001))
    assert (kind(loose.decision), kind(strict.decision)) == ("SEMANTIC", "MISS")


@pytest.mark.parametrize(
    ("stored", "prompt"),
    [
        ("How do I turn dark mode on?", "How do I turn dark mode off?"),
        ("What is 1 + 1?", "What is 21 + 1?"),
        ("Which foods can dogs eat?", "Which foods can dogs not eat?"),
    ],
)
def test_contradictions_are_not_served(cache: Any, scope: Any, stored: str, prompt: str) -> None:
    store(cache, scope, stored)
    decision = cache.LookupEntry(Lookup(scope=scope, prompt=prompt, min_similarity=0.5)).decision
    assert (kind(decision), decision.miss_reason) == ("MISS", cache_pb2.MISS_REASON_CONTRADICTS)


def test_nothing_crosses_scopes(cache: Any, scope: Any) -> None:
    entry = store(cache, scope)
    for other in (
        cache_pb2.Scope(tenant=scope.tenant, user="u"),
        cache_pb2.Scope(tenant=scope.tenant, namespace="n"),
        cache_pb2.Scope(),
    ):
        found = cache.LookupEntry(Lookup(scope=other, prompt=QUESTION, min_similarity=-1)).decision
        assert found.entry.id != entry.id
        request = cache_pb2.GetEntryRequest(scope=other, id=entry.id)
        assert refusal(cache.GetEntry, request)[:2] == (
            grpc.StatusCode.NOT_FOUND,
            "ENTRY_NOT_FOUND",
        )


def test_a_miss_names_the_differing_parts_of_the_context(cache: Any, scope: Any) -> None:
    context = cache_pb2.RequestContext(model="a", parameters={"temperature": "0"})
    store(cache, scope, context=context)
    other = cache_pb2.RequestContext(model="b", parameters={"temperature": "0"})
    decision = cache.LookupEntry(Lookup(scope=scope, prompt=QUESTION, context=other)).decision
    assert decision.miss_reason == cache_pb2.MISS_REASON_CONTEXT_DIFFERS
    assert list(decision.differing_parts) == ["model"]
    assert (
        kind(cache.LookupEntry(Lookup(scope=scope, prompt=QUESTION, context=context)).decision)
        == "EXACT"
    )


def test_entries_are_replaced_deleted_and_expire(cache: Any, scope: Any) -> None:
    first, second = store(cache, scope), store(cache, scope, response="Ask support.")
    assert first.id == second.id
    get = cache_pb2.GetEntryRequest(scope=scope, id=first.id)
    assert cache.GetEntry(get).entry.response == "Ask support."
    cache.DeleteEntry(cache_pb2.DeleteEntryRequest(scope=scope, id=first.id))
    assert kind(cache.LookupEntry(Lookup(scope=scope, prompt=QUESTION)).decision) == "MISS"
    store(cache, scope, ttl=0.3)
    wait_until(
        lambda: kind(cache.LookupEntry(Lookup(scope=scope, prompt=QUESTION)).decision) == "MISS"
    )


def test_a_repeated_request_returns_the_first_entry(cache: Any, scope: Any) -> None:
    one = store(cache, scope, request_id="r1")
    assert store(cache, scope, request_id="r1") == one


def test_a_lookup_by_vector(stack: Stack, cache: Any, scope: Any) -> None:
    store(cache, scope)
    request = embedder_pb2.EmbedRequest(
        inputs=[embedder_pb2.Input(text=QUESTION)], task=embedder_pb2.TASK_QUERY
    )
    embedded = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder).Embed(request)
    found = cache.LookupEntry(
        Lookup(scope=scope, vector=embedded.vectors, model_digest=embedded.model_digest)
    ).decision
    assert kind(found) == "SEMANTIC"
    bad = Lookup(scope=scope, vector=np.full(384, np.nan, "<f4").tobytes(), model_digest="x")
    assert refusal(cache.LookupEntry, bad)[:2] == (INVALID, "BAD_VECTOR")


def test_bad_calls_are_rejected(cache: Any) -> None:
    assert refusal(cache.LookupEntry, Lookup(prompt=" "))[1] == "EMPTY_PROMPT"
    assert refusal(cache.LookupEntry, Lookup(prompt="x" * 40_000))[1] == "PROMPT_TOO_LONG"
    assert refusal(cache.LookupEntry, Lookup(prompt="x", min_similarity=2))[1] == "BAD_SIMILARITY"
    assert refusal(cache.LookupEntry, Lookup(prompt="x", max_error_rate=1))[1] == "BAD_ERROR_RATE"
    empty = cache_pb2.CreateEntryRequest(prompt="x")
    assert refusal(cache.CreateEntry, empty)[1] == "EMPTY_RESPONSE"


def test_entries_are_listed_and_purged(cache: Any, scope: Any) -> None:
    started = time.time()
    for number in range(5):
        store(cache, scope, f"Question {number}?", cites=[f"documents/{number % 2}"])
    other = cache_pb2.Scope(tenant=scope.tenant, user="u")
    store(cache, other, "Question 0?", cites=["documents/0"])

    def listed() -> list[str]:
        prompts, token = [], ""
        while True:
            page = cache.ListEntries(
                cache_pb2.ListEntriesRequest(scope=scope, page_size=2, page_token=token)
            )
            prompts += [entry.prompt for entry in page.entries]
            token = page.next_page_token
            if not token:
                return sorted(prompts)

    def purge(**options: Any) -> Any:
        return cache.PurgeEntries(cache_pb2.PurgeEntriesRequest(scope=scope, **options))

    assert listed() == [f"Question {number}?" for number in range(5)]
    cites = cache_pb2.PurgeFilter(cites=["documents/0", "documents/9"])
    dry = purge(filter=cites)
    assert (dry.count, dry.deleted, len(dry.sample), len(listed())) == (3, False, 3, 5)
    assert purge(filter=cites, force=True).count == 3
    assert listed() == ["Question 1?", "Question 3?"]
    found = cache.LookupEntry(Lookup(scope=scope, prompt="Question 0?", min_similarity=0.999))
    assert kind(found.decision) == "MISS"
    assert purge(filter=cache_pb2.PurgeFilter(older_than=1000), force=True).count == 0
    assert purge(filter=cache_pb2.PurgeFilter(prompt_contains="QUESTION 1"), force=True).count == 1
    everything = cache_pb2.PurgeEntriesRequest(scope=scope, force=True)
    assert refusal(cache.PurgeEntries, everything)[:2] == (INVALID, "EMPTY_FILTER")
    assert purge(force=True, all=True).count == 1
    assert listed() == []
    pages: list[Any] = []
    token = ""
    while not pages or token:
        request = cache_pb2.ListPurgesRequest(scope=scope, page_size=2, page_token=token)
        pages.append(cache.ListPurges(request))
        token = pages[-1].next_page_token
    records = [(one.count, list(one.filter.cites)) for page in pages for one in page.purges]
    assert records == [(1, []), (1, []), (0, []), (3, ["documents/0", "documents/9"])]
    newest = pages[0].purges[0]
    assert newest.key == ""
    assert started - 1 <= newest.time <= time.time() + 1
    assert pages[0].purges[1].filter.prompt_contains == "QUESTION 1"
    elsewhere = cache.LookupEntry(Lookup(scope=other, prompt="Question 0?")).decision
    assert kind(elsewhere) == "EXACT"


def test_expired_entries_leave_the_list(cache: Any, scope: Any) -> None:
    store(cache, scope, ttl=0.2)
    request = cache_pb2.ListEntriesRequest(scope=scope)
    wait_until(lambda: not cache.ListEntries(request).entries)


def test_feedback_and_statistics(cache: Any, scope: Any) -> None:
    usage = cache_pb2.Usage(prompt_tokens=7, completion_tokens=5, seconds=1.5)
    entry = store(cache, scope, usage=usage)
    for prompt in (QUESTION, QUESTION, PARAPHRASE, "What is the weather?"):
        cache.LookupEntry(Lookup(scope=scope, prompt=prompt, min_similarity=0.9))
    report = cache_pb2.ReportFeedbackRequest(scope=scope, id=entry.id, correct=True)
    assert not cache.ReportFeedback(report).deleted
    wrong = cache_pb2.ReportFeedbackRequest(scope=scope, id=entry.id)
    assert cache.ReportFeedback(wrong).deleted
    assert refusal(cache.ReportFeedback, wrong)[1] == "ENTRY_NOT_FOUND"
    stats = cache.GetStats(cache_pb2.GetStatsRequest(scope=scope))
    assert (stats.exact, stats.semantic, stats.misses, stats.bypasses) == (2, 1, 1, 0)
    assert stats.hit_ratio.value == 0.75
    assert 0 < stats.hit_ratio.low < 0.75 < stats.hit_ratio.high < 1
    assert stats.wrong_ratio.value == 0.5
    assert 0 < stats.expected_wrong < 1
    assert stats.saved == cache_pb2.Usage(prompt_tokens=21, completion_tokens=15, seconds=4.5)
    kinds = {one.kind: one for one in stats.latencies}
    counted = {kind: sum(bucket.count for bucket in one.buckets) for kind, one in kinds.items()}
    assert counted == {
        cache_pb2.DECISION_KIND_EXACT: 2,
        cache_pb2.DECISION_KIND_SEMANTIC: 1,
        cache_pb2.DECISION_KIND_MISS: 1,
    }
    exact, semantic = list(kinds.values())[:2]
    assert 0 < exact.p50 <= exact.p99
    assert 0 < semantic.p50 <= semantic.p99
    assert not stats.history
    other = cache_pb2.Scope(tenant=scope.tenant, user="u")
    cache.LookupEntry(Lookup(scope=other, prompt=QUESTION))
    whole = cache_pb2.GetStatsRequest(scope=other, whole_tenant=True, history=True)
    stats = cache.GetStats(whole)
    assert (stats.exact, stats.semantic, stats.misses) == (2, 1, 2)
    points = stats.history
    assert 0 < len(points) <= 2
    assert all(point.start % 300 == 0 for point in points)
    assert sum(point.misses for point in points) == 2
    assert (sum(one.right for one in points), sum(one.wrong for one in points)) == (1, 1)
    assert sum(point.saved.seconds for point in points) == 4.5
    assert cache.GetStats(cache_pb2.GetStatsRequest()).wrong_ratio.high == 1
