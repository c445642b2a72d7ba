from typing import Any

import pytest

from memetwin.gateway.v1 import cache_pb2, rag_pb2
from services.errors import InvalidArgument
from services.gateway.cache import messages as cache_messages
from services.gateway.cache.types import Bound
from services.gateway.rag import messages


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
