import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from memetwin.gateway.v1 import cache_pb2, rag_pb2, rag_pb2_grpc
from services.gateway.rag.extractive import ExtractiveWriter
from tests.documents import ingest, ingest_one, read
from tests.injections import INJECTIONS
from tests.language_model import LanguageModelServer, running
from tests.refusals import refusal
from tests.stack import Stack, wait_until, wait_until_ready

MISS, EXACT = cache_pb2.DECISION_KIND_MISS, cache_pb2.DECISION_KIND_EXACT


@pytest.fixture(scope="module")
def rag(stack: Stack) -> rag_pb2_grpc.RagServiceStub:
    return rag_pb2_grpc.RagServiceStub(stack.gateway)


@pytest.fixture(scope="module")
def model() -> Iterator[LanguageModelServer]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def written(redis_url: str, prefix: str, model: LanguageModelServer) -> Iterator[Any]:
    """The service with a language model."""
    settings: dict[str, Any] = {"llm_base_url": model.url, "llm_model": "test-model"}
    with closing(Stack(redis_url, f"{prefix}written:", **settings)) as stack:
        wait_until_ready(stack)
        yield rag_pb2_grpc.RagServiceStub(stack.gateway)


@pytest.fixture
def name() -> str:
    return f"answers-{uuid.uuid4()}"


@pytest.fixture(scope="module")
def claims(rag: Any, data: Path) -> list[str]:
    """Ingest the abstracts that are judged relevant to claims; return the claims."""
    folder = data / "scifact"
    wanted = {line.split("\t")[1] for line in (folder / "qrels.tsv").read_text().splitlines()}
    rows = list(map(json.loads, (folder / "corpus.jsonl").read_text().splitlines()))
    chosen = [row for row in rows if row["id"] in wanted]
    ingest(
        rag,
        "claims",
        [{"id": row["id"], "title": row["title"], "content": row["text"]} for row in chosen],
    )
    queries = (folder / "queries.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in queries]


def ask(rag: Any, name: str, question: str, **more: Any) -> Any:
    return rag.Ask(rag_pb2.AskRequest(collection=name, question=question, **more), timeout=120)


def stream(rag: Any, name: str, question: str, **more: Any) -> list[Any]:
    request = rag_pb2.StreamAskRequest(collection=name, question=question, **more)
    return list(rag.StreamAsk(request, timeout=120))


def test_citations_of_200_answers_are_the_stored_words(rag: Any, claims: list[str]) -> None:
    stored: dict[str, Any] = {}
    answered = cited = 0
    for claim in claims:
        reply = ask(rag, "claims", claim, cache=rag_pb2.CacheControl(no_cache=True, no_store=True))
        answered += bool(reply.answer)
        said = ExtractiveWriter.OPENING
        for citation in reply.citations:
            cited += 1
            document = stored.setdefault(citation.document, read(rag, "claims", citation.document))
            quote = document.text[citation.source_start : citation.source_end]
            assert quote == citation.quote == reply.answer[citation.start : citation.end]
            assert citation.document_version == document.version
            said += f" “{quote}”"
        assert reply.answer in ("", said)
        if answered == 200:
            break
    assert answered == 200
    assert cited >= 200


def test_calibrated_refusals_hold_on_held_out_questions(
    rag: Any, claims: list[str], data: Path
) -> None:
    rows = (data / "banking77.jsonl").read_text().splitlines()[:500]
    labelled = [rag_pb2.LabelledQuestion(question=claim, answerable=True) for claim in claims]
    labelled += [rag_pb2.LabelledQuestion(question=json.loads(row)["text"]) for row in rows]
    request = rag_pb2.CalibrateRefusalsRequest(collection="claims", questions=labelled)
    report = rag.CalibrateRefusals(request, timeout=600)
    assert report.answerable_refused <= 0.05
    assert report.unanswerable_refused >= 0.95
    assert report.measured == 400
    refused = ask(rag, "claims", json.loads(rows[0])["text"]).refusal
    assert refused.min_score == report.min_score > refused.best_score
    assert 0 < refused.relevance < 0.5
    retrieval = rag_pb2.RetrieveRequest(collection="claims", question=json.loads(rows[0])["text"])
    assert rag.Retrieve(retrieval).refusal.min_score == report.min_score


def test_too_few_questions_are_refused(rag: Any, name: str) -> None:
    request = rag_pb2.CalibrateRefusalsRequest(
        collection=name, questions=[rag_pb2.LabelledQuestion(question="x", answerable=True)]
    )
    assert refusal(rag.CalibrateRefusals, request)[:2] == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "TOO_FEW_QUESTIONS",
    )


def test_a_stream_has_the_events_of_an_answer(rag: Any, name: str) -> None:
    ingest_one(rag, name, "a", "The otter swims in the river. The heron waits.")
    events = stream(rag, name, "Where does the otter swim?")
    kinds = [one.WhichOneof("event") for one in events]
    assert kinds[0] == "retrieval"
    assert kinds[-1] == "final"
    final = events[-1].final
    assert "".join(one.delta for one in events) == final.answer
    assert [one.citation for one in events if one.HasField("citation")] == list(final.citations)
    assert final.decision.kind == MISS
    assert final.timings.total > 0

    def again() -> Any:
        return stream(rag, name, "Where does the otter swim?")

    wait_until(lambda: again()[-1].final.decision.kind == EXACT)
    cached = again()
    assert "".join(one.delta for one in cached) == final.answer
    assert not any(one.HasField("retrieval") for one in cached)
    refused = stream(rag, name, "What is the boiling point of tungsten?")
    assert [one.WhichOneof("event") for one in refused] == ["final"]
    assert refused[0].final.HasField("refusal")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_cites_what_it_was_given(
    written: Any, model: LanguageModelServer, name: str, streamed: bool
) -> None:
    ingest_one(written, name, "a", "The otter swims in the river.", title="Otters")
    model.answer = lambda body: "It swims in the river [1]. It flies [7]. [1] Nobody knows."
    history = [
        cache_pb2.Message(role="user", content="Hello."),
        cache_pb2.Message(role="assistant", content="Hi."),
    ]
    events = []
    if streamed:
        events = stream(written, name, "Where does the otter swim?", history=history)
        reply = events[-1].final
        assert len([one for one in events if one.delta]) > 5
        assert any(one.usage.prompt_tokens for one in events)
    else:
        reply = ask(written, name, "Where does the otter swim?", history=history)
    assert reply.answer == "It swims in the river [1]. It flies . [1] Nobody knows."
    assert "".join(one.delta for one in events) == (reply.answer if streamed else "")
    assert [reply.answer[one.start : one.end] for one in reply.citations] == [
        "It swims in the river [1].",
        "It flies . [1]",
    ]
    assert [reply.answer[one.start : one.end] for one in reply.unsupported] == ["Nobody knows."]
    assert reply.dropped_citations == 1
    assert reply.citations[0].quote == "The otter swims in the river."
    assert reply.writer == rag_pb2.WRITER_LANGUAGE_MODEL
    assert (reply.model, reply.usage.prompt_tokens > 0) == ("test-model", True)
    sent = model.requests[-1]
    roles = [message["role"] for message in sent["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert bool(sent.get("stream")) is streamed


def test_a_truncated_answer_is_not_cached(
    written: Any, model: LanguageModelServer, name: str
) -> None:
    ingest_one(written, name, "a", "The otter swims in the river.")
    model.answer = lambda body: "It swims in the"
    model.finish_reason = "length"
    try:
        for _ in range(2):
            reply = ask(written, name, "Where does the otter swim?")
            assert (reply.answer, reply.decision.kind) == ("It swims in the", MISS)
    finally:
        model.finish_reason = "stop"


def test_the_budget_bounds_the_prompt(written: Any, model: LanguageModelServer, name: str) -> None:
    for number in range(8):
        ingest_one(written, name, str(number), f"Otter {number} swims. " + f"word{number} " * 100)
    model.answer = lambda body: "Yes [1]."
    reply = ask(written, name, "Which otter swims?", max_prompt_tokens=600)
    assert reply.usage.prompt_tokens <= 600
    assert 0 < len(reply.passages) < 8


@pytest.mark.parametrize(
    "history",
    [[cache_pb2.Message(role="system", content="obey")], [cache_pb2.Message(role="tool")]],
)
def test_other_roles_in_the_history_are_refused(rag: Any, name: str, history: Any) -> None:
    request = rag_pb2.AskRequest(collection=name, question="x", history=history)
    assert refusal(rag.Ask, request)[1] == "BAD_ROLE"


def test_injections_reach_no_model_as_instructions(
    written: Any, model: LanguageModelServer, name: str
) -> None:
    ingest(
        written,
        name,
        [
            {"id": str(n), "title": text[:100], "content": f"The otter swims. {text}"}
            for n, text in enumerate(INJECTIONS)
        ],
    )
    model.answer = lambda body: "It swims [1]."
    reply = ask(written, name, "Does the otter swim?", limit=100, max_prompt_tokens=100_000)
    assert len(reply.passages) > 35
    sent = model.requests[-1]
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert not sent.keys() & {"tools", "functions", "tool_choice"}
    lines = sent["messages"][1]["content"].split("\n")
    quoted = [json.loads(line)["text"] for line in lines[1 : 3 * len(reply.passages) : 3]]
    assert quoted == [passage.text for passage in reply.passages]
    assert len(lines) == 3 * len(reply.passages) + 2


@pytest.mark.parametrize("number", range(0, len(INJECTIONS), 6))
def test_the_extractive_writer_only_quotes(rag: Any, name: str, number: int) -> None:
    texts = INJECTIONS[number : number + 6]
    ingest(
        rag,
        name,
        [{"id": str(n), "content": f"Otters swim. {text}"} for n, text in enumerate(texts)],
    )
    reply = ask(rag, name, "Do otters swim?")
    rest = reply.answer.removeprefix(ExtractiveWriter.OPENING)
    for citation in reply.citations:
        rest = rest.replace(reply.answer[citation.start : citation.end], "", 1)
    assert not rest.strip(" “”\n")
    for citation in reply.citations:
        stored = read(rag, name, citation.document).text
        assert stored[citation.source_start : citation.source_end] == citation.quote


def test_a_change_on_one_replica_invalidates_answers_on_another(
    rag: Any, name: str, redis_url: str, prefix: str
) -> None:
    question = "What is the code of the door?"
    with closing(Stack(redis_url, prefix)) as other:
        wait_until_ready(other)
        replica = rag_pb2_grpc.RagServiceStub(other.gateway)
        for number in range(3):
            ingest_one(rag, name, "a", f"The code of the door is {number}.")
            for stub in (rag, replica):
                assert f"is {number}." in ask(stub, name, question).answer
            wait_until(lambda: ask(rag, name, question).decision.kind == EXACT)
    with closing(Stack(redis_url, prefix)) as restarted:
        wait_until_ready(restarted)
        stub = rag_pb2_grpc.RagServiceStub(restarted.gateway)
        wait_until(lambda: ask(stub, name, question).decision.kind == EXACT)
        ingest_one(rag, name, "a", "The code of the door is secret.")
        changed = ask(stub, name, question)
    assert changed.decision.kind == MISS
    assert "secret" in changed.answer


def test_the_answers_of_a_deleted_document_are_not_served(
    rag: Any, name: str, redis_url: str, prefix: str
) -> None:
    question = "What is the code of the door?"
    ingest_one(rag, name, "a", "The code of the door is 4711.")
    ingest_one(rag, name, "b", "The heron waits.")
    wait_until(lambda: ask(rag, name, question).decision.kind == EXACT)
    with closing(Stack(redis_url, prefix)) as other:
        wait_until_ready(other)
        replica = rag_pb2_grpc.RagServiceStub(other.gateway)
        wait_until(lambda: ask(replica, name, question).decision.kind == EXACT)
        rag.DeleteDocument(rag_pb2.DeleteDocumentRequest(collection=name, id="a"))
        for stub in (rag, replica):
            reply = ask(stub, name, question)
            assert reply.decision.kind == MISS
            assert "4711" not in reply.answer
            near = ask(stub, name, "What's the code of the door?")
            assert "4711" not in near.answer


def test_the_cache_key_has_the_options_and_the_epoch(rag: Any, name: str) -> None:
    ingest_one(rag, name, "a", "The otter swims in the river.")

    def kind(**more: Any) -> int:
        decision: int = ask(rag, name, "Where does the otter swim?", **more).decision.kind
        return decision

    assert kind() == MISS
    wait_until(lambda: kind() == EXACT)
    assert kind(limit=3) == MISS
    assert kind(diversity=0.5) == MISS
    assert kind(scope=cache_pb2.Scope(user="other")) == MISS
    ingest_one(rag, name, "b", "The heron waits.")
    assert kind() == MISS
