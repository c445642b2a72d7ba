"""The real loading path of CLIP-like models, on one with two layers and random weights."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from services.embedder.models.model import ModelLoadError
from services.embedder.models.sentence_transformer import SentenceTransformerModel
from services.embedder.registry import ModelRegistry, ModelSpec
from services.embedder.requests import EmbedRequest
from services.embedder.service import EmbeddingService

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )
    size: Any = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = CLIPTextConfig(
        vocab_size=len(words), max_position_embeddings=16, eos_token_id=len(words) - 1,
        bos_token_id=len(words) - 2, pad_token_id=len(words) - 1, **size,
    )  # fmt: skip
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **size)
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)
    )
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    model.save_pretrained(folder / "plain")
    make: Any = CLIPProcessor
    make(pictures, tokenizer).save_pretrained(folder / "plain")
    whole = SentenceTransformer(str(folder / "plain"), device="cpu")
    whole.save(str(folder / "model"))
    return folder / "model"


def picture() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG")
    return file.getvalue()


async def test_texts_and_pictures_share_a_request(folder: Path) -> None:
    encode = SentenceTransformer(str(folder), device="cpu").encode
    expected = [encode("a cat"), encode(Image.linear_gradient("L").convert("RGB"))]
    name = str(folder)
    spec = ModelSpec(
        name, frozenset({"text", "image"}), lambda: SentenceTransformerModel.load(name)
    )
    async with ModelRegistry([spec], 10_000) as registry:
        await registry.find(name).load_finished.wait()
        service = EmbeddingService(registry)
        request = EmbedRequest(["a cat", picture(), "a dog"], normalize=False)
        reply = await service.embed(request)
        service.close()
    rows = np.frombuffer(reply.vectors.data, "<f4").reshape(3, -1)
    assert reply.info.modalities == {"text", "image"}
    assert rows[:2] == pytest.approx(np.array(expected), abs=1e-4)
    assert np.abs(rows[0] - rows[2]).max() > 1e-3


def test_threads_prepare_pictures_while_others_compute(folder: Path) -> None:
    model = SentenceTransformerModel.load(str(folder))
    pictures = [Image.linear_gradient("L").rotate(n).convert("RGB") for n in range(64)]
    expected = model.encode(model.prepare(pictures, ""))
    with ThreadPoolExecutor(8) as pool:
        prepared = pool.map(lambda one: model.prepare([one], ""), pictures)
        texts = pool.map(lambda n: model.encode(model.prepare([f"cat {n}"], "")), range(64))
        assert len(list(texts)) == 64
        rows = model.encode([one for [one] in prepared])
    assert rows == pytest.approx(expected, abs=1e-5)


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelLoadError, match="no-such-model"):
        SentenceTransformerModel.load("./no-such-model")
