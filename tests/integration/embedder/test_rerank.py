"""Cross-encoders on the real loading path; the model has two layers and random weights."""

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from sentence_transformers import CrossEncoder

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder.models.cross_encoder import CrossEncoderModel
from services.embedder.models.model import ModelLoadError
from tests.embedder_process import EmbedderProcess
from tests.refusals import refusal
from tests.small_models import cross_encoder
from tests.stack import Stack

TEXTS = ["a cat sat", "dogs", "the number of tokens is far beyond what it reads " * 9, "a cat sat"]


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    return cross_encoder(tmp_path_factory.mktemp("models") / "reranker", 1)


@pytest.fixture(scope="module")
def stub(name: str) -> Iterator[embedder_pb2_grpc.EmbedderServiceStub]:
    process = EmbedderProcess(os.environ | {"MEMETWIN_RERANK_MODEL": name})
    yield process.stub
    process.stop()


def test_scores_are_those_of_the_cross_encoder(
    stub: embedder_pb2_grpc.EmbedderServiceStub, name: str
) -> None:
    expected = CrossEncoder(name, device="cpu").predict([("cat", text) for text in TEXTS])
    reply = stub.Rerank(embedder_pb2.RerankRequest(query="cat", texts=TEXTS), timeout=60)
    assert list(reply.scores) == pytest.approx(expected.tolist(), abs=1e-5)
    assert len(set(reply.scores[:3])) == 3
    assert list(reply.truncated) == [False, False, True, False]
    model = stub.GetModel(embedder_pb2.GetModelRequest(name=name)).model
    assert (reply.model, reply.model_digest) == (name, model.digest)
    assert (model.reranks, list(model.modalities)) == (True, [])


def test_invalid_requests_are_refused(
    stub: embedder_pb2_grpc.EmbedderServiceStub, name: str
) -> None:
    request, invalid = embedder_pb2.RerankRequest, grpc.StatusCode.INVALID_ARGUMENT
    assert refusal(stub.Rerank, request(query="a"))[:2] == (invalid, "EMPTY_BATCH")
    assert refusal(stub.Rerank, request(texts=["a"]))[:2] == (invalid, "EMPTY_TEXT")
    found = refusal(stub.Rerank, request(query="a", texts=["a"], model="all-MiniLM-L6-v2"))
    assert found[:2] == (invalid, "WRONG_MODALITY")
    found = refusal(
        stub.Embed, embedder_pb2.EmbedRequest(model=name, inputs=[embedder_pb2.Input(text="a")])
    )
    assert found[:2] == (invalid, "WRONG_MODALITY")


def test_without_a_reranker_the_setting_is_named(stack: Stack) -> None:
    stub = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
    found = refusal(stub.Rerank, embedder_pb2.RerankRequest(query="a", texts=["a"]))
    assert found[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "NO_RERANK_MODEL")


def test_a_classifier_cannot_rerank(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="3 labels"):
        CrossEncoderModel.load(cross_encoder(tmp_path / "classifier", 3))
