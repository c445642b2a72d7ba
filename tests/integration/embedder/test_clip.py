"""CLIP-like models on the real loading path; the model has two layers and random weights."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sentence_transformers import SentenceTransformer

from services.embedder.models.model import ModelLoadError
from services.embedder.models.sentence_transformer import SentenceTransformerModel
from services.embedder.registry import ModelRegistry, ModelSpec
from services.embedder.requests import EmbedRequest
from services.embedder.service import EmbeddingService
from tests import small_models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.clip(tmp_path_factory.mktemp("clip"))


def png() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG")
    return file.getvalue()


async def test_texts_and_images_share_a_request(folder: Path) -> None:
    encode = SentenceTransformer(str(folder), device="cpu").encode
    expected = [encode("a cat"), encode(Image.linear_gradient("L").convert("RGB"))]
    name = str(folder)
    spec = ModelSpec(
        name, frozenset({"text", "image"}), lambda: SentenceTransformerModel.load(name)
    )
    async with ModelRegistry([spec], 10_000) as registry:
        await registry.find(name).load_finished.wait()
        service = EmbeddingService(registry)
        request = EmbedRequest(["a cat", png(), "a dog"], normalize=False)
        reply = await service.embed(request)
        service.close()
    rows = np.frombuffer(reply.vectors.data, "<f4").reshape(3, -1)
    assert reply.info.modalities == {"text", "image"}
    assert rows[:2] == pytest.approx(np.array(expected), abs=1e-4)
    assert np.abs(rows[0] - rows[2]).max() > 1e-3


def test_threads_prepare_images_while_others_compute(folder: Path) -> None:
    model = SentenceTransformerModel.load(str(folder))
    images = [Image.linear_gradient("L").rotate(n).convert("RGB") for n in range(64)]
    expected = model.encode(model.prepare(images, ""))
    with ThreadPoolExecutor(8) as pool:
        prepared = pool.map(lambda one: model.prepare([one], ""), images)
        texts = pool.map(lambda n: model.encode(model.prepare([f"cat {n}"], "")), range(64))
        assert len(list(texts)) == 64
        rows = model.encode([one for [one] in prepared])
    assert rows == pytest.approx(expected, abs=1e-4)


def test_a_missing_model_is_named() -> None:
    with pytest.raises(ModelLoadError, match="no-such-model"):
        SentenceTransformerModel.load("./no-such-model")
