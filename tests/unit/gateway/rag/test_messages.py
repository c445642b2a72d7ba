from typing import Any

import pytest

from memetwin.gateway.v1 import cache_pb2, rag_pb2
from services.errors import InvalidArgument
from services.gateway.cache import messages as cache_messages
from services.gateway.cache.types import Bound, Decision
from services.gateway.rag import messages
from services.gateway.rag.timings import Timings
from services.gateway.rag.types import Answer, Citation, RefusalDecision, Unsupported


def bound(**cache: Any) -> Bound:
    request = rag_pb2.AskRequest(cache=rag_pb2.CacheControl(**cache))
    return messages.read_question(request).bound


def test_the_bound_of_the_api_key_holds_for_questions_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_messages, "current_max_error_rate", lambda: 0.02)
    assert bound() == Bound(max_error_rate=0.02)
    assert bound(max_age=5) == Bound(max_error_rate=0.02, max_age=5)
    assert bound(max_error_rate=0.1) == Bound(max_error_rate=0.1)
    assert bound(min_similarity=0) == Bound(min_similarity=0)


@pytest.mark.parametrize(
    ("cache", "reason"),
    [({"min_similarity": 2}, "BAD_SIMILARITY"), ({"max_error_rate": 1}, "BAD_ERROR_RATE")],
)
def test_bounds_are_checked(cache: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        bound(**cache)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "kind", [rag_pb2.AskRequest, rag_pb2.StreamAskRequest, rag_pb2.RetrieveRequest]
)
def test_all_requests_have_a_history(kind: Any) -> None:
    history = [cache_pb2.Message(role="user", content="Where?")]
    question = messages.read_question(kind(question="And there?", history=history))
    assert question.history == [("user", "Where?")]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (rag_pb2.GROUNDING_UNSPECIFIED, "mark"),
        (rag_pb2.GROUNDING_MARK, "mark"),
        (rag_pb2.GROUNDING_DROP, "drop"),
        (rag_pb2.GROUNDING_OFF, "off"),
    ],
)
def test_grounding_is_read(sent: rag_pb2.Grounding.ValueType, read: str) -> None:
    assert messages.read_question(rag_pb2.AskRequest(grounding=sent)).grounding == read
    assert messages.read_question(rag_pb2.StreamAskRequest(grounding=sent)).grounding == read


def test_an_unknown_grounding_is_refused() -> None:
    request = rag_pb2.AskRequest.FromString(b"\x68\x63")  # field 13 is 99
    with pytest.raises(InvalidArgument) as caught:
        messages.read_question(request)
    assert caught.value.reason == "BAD_GROUNDING"


def test_verdicts_are_written() -> None:
    citations = [Citation(0, 3, "a", "v", "a#0", 4, 9, "otter", one) for one in (True, False, None)]
    unsupported = [Unsupported(1, 2, "number", "7"), Unsupported(3, 4)]
    answer = Answer(
        "It.", citations, [], Decision("miss"), Timings(), unsupported=unsupported, withheld=2
    )
    message = messages.write_answer(answer)
    assert [one.supported for one in message.citations] == [True, False, False]
    assert [one.HasField("supported") for one in message.citations] == [True, True, False]
    assert [(one.reason, one.detail) for one in message.unsupported] == [
        (rag_pb2.UNSUPPORTED_REASON_NUMBER, "7"),
        (rag_pb2.UNSUPPORTED_REASON_NO_CITATION, ""),
    ]
    assert message.dropped_sentences == 2
    answer.refusal = RefusalDecision(True, 0.5, 0.4, supported=False)
    written = messages.write_answer(answer)
    assert written.refusal.reason == rag_pb2.REFUSAL_REASON_UNSUPPORTED
