"""Retrieval for questions that continue a conversation: which notes they find."""

from typing import Any

import pytest

from memetwin.gateway.v1 import cache_pb2, rag_pb2, rag_pb2_grpc
from tests.documents import ingest
from tests.followups import FOLLOW_UPS, FollowUp, notes
from tests.stack import Stack

COLLECTION = "follow-ups"


@pytest.fixture(scope="module")
def rag(stack: Stack) -> Any:
    stub = rag_pb2_grpc.RagServiceStub(stack.gateway)
    documents = [{"id": key, "content": text} for key, text in notes().items()]
    assert {one.status for one in ingest(stub, COLLECTION, documents)} == {
        rag_pb2.RECEIPT_STATUS_CREATED
    }
    return stub


def rank(rag: Any, one: FollowUp, *, with_history: bool) -> int:
    """Return the rank of the note among the passages, from 1."""
    history = [
        cache_pb2.Message(role=role, content=text) for role, text in one.history if with_history
    ]
    request = rag_pb2.RetrieveRequest(
        collection=COLLECTION, question=one.question, history=history, limit=100
    )
    found = [passage.document_id for passage in rag.Retrieve(request, timeout=60).passages]
    return found.index(one.note) + 1 if one.note in found else 1000


def share(ranks: list[int], limit: int) -> float:
    return sum(rank <= limit for rank in ranks) / len(ranks)


def test_a_conversation_helps_its_next_question_to_find_the_note(rag: Any) -> None:
    ranks = [rank(rag, one, with_history=True) for one in FOLLOW_UPS]
    alone = [rank(rag, one, with_history=False) for one in FOLLOW_UPS]
    print(f"first: {share(ranks, 1):.2f}, {share(alone, 1):.2f} without the conversation;")
    print(f"of the first three: {share(ranks, 3):.2f}, {share(alone, 3):.2f}")
    assert share(ranks, 1) >= 0.7
    assert share(ranks, 1) >= share(alone, 1) + 0.25
    assert share(ranks, 3) >= 0.9
    assert share(ranks, 8) == 1.0
