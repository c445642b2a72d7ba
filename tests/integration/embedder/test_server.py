"""The embedder over gRPC, with the models that ship with it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    load_sentence_transformer,
)
from tests.media_files import saved, scene
from tests.refusals import refusal
from tests.stack import Stack

Stub = embedder_pb2_grpc.EmbedderServiceStub
INVALID = grpc.StatusCode.INVALID_ARGUMENT
TEXTS = ["What is a meme?", "no", "A longer text about cats that " * 20, "Grüße aus Köln – 日本"]


@pytest.fixture(scope="module")
def stub(stack: Stack) -> Stub:
    return Stub(stack.embedder)


def embed(stub: Stub, *inputs: str | bytes, **options: Any) -> Any:
    messages = [
        embedder_pb2.Input(text=value)
        if isinstance(value, str)
        else embedder_pb2.Input(image=value)
        for value in inputs
    ]
    return stub.Embed(embedder_pb2.EmbedRequest(inputs=messages, **options), timeout=120)


def vectors(response: Any) -> Any:
    return np.frombuffer(response.vectors, "<f4").reshape(-1, response.dimensions)


def trial_of(model: embedder_pb2.Model) -> embedder_pb2.Trial:
    """Return the trial of the runtime that computes a model."""
    selected = model.runtime, model.dtype
    [trial] = [one for one in model.trials if (one.runtime, one.dtype) == selected]
    return trial


def test_vectors_are_those_of_sentence_transformers(stub: Stub) -> None:
    expected = load_sentence_transformer(DEFAULT_TEXT_MODEL)[0].encode(TEXTS)
    response = embed(stub, *TEXTS)
    trial = trial_of(stub.GetModel(embedder_pb2.GetModelRequest()).model)
    assert (vectors(response) * expected).sum(1).min() > trial.min_cosine - 0.02
    assert response.model == DEFAULT_TEXT_MODEL
    assert list(response.truncated) == [False, False, False, False]
    assert response.tokens[1] == 3


def test_a_vector_does_not_depend_on_its_batch(stub: Stub) -> None:
    alone = np.vstack([vectors(embed(stub, text)) for text in TEXTS])
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda n: vectors(embed(stub, TEXTS[n % 4])), range(64)))
    assert min(float(row[0] @ alone[n % 4]) for n, row in enumerate(together)) > 0.9995


def test_long_texts_are_truncated_or_refused(stub: Stub) -> None:
    long = "word " * 3000
    response = embed(stub, long)
    assert (list(response.truncated), list(response.tokens)) == ([True], [256])
    request = embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(text=long)], truncate=False)
    assert refusal(stub.Embed, request)[:2] == (INVALID, "TEXT_TOO_LONG")


def test_encodings_carry_the_same_vectors(stub: Stub) -> None:
    whole = vectors(embed(stub, *TEXTS))
    half = embed(stub, *TEXTS, encoding=embedder_pb2.ENCODING_FLOAT16)
    assert np.frombuffer(half.vectors, "<f2").reshape(4, -1) == pytest.approx(whole, abs=1e-3)
    small = embed(stub, *TEXTS, encoding=embedder_pb2.ENCODING_INT8)
    codes = np.frombuffer(small.vectors, np.int8).reshape(4, -1)
    assert codes * np.array(small.scale) + np.array(small.offset) == pytest.approx(whole, abs=2e-3)
    bits = embed(stub, *TEXTS, encoding=embedder_pb2.ENCODING_BINARY)
    signs = np.unpackbits(np.frombuffer(bits.vectors, np.uint8).reshape(4, -1), axis=1)
    clear = np.abs(whole) > 1e-3  # a sign near zero may depend on the batch
    assert (signs == (whole > 0))[clear].all()


def test_int8_codes_of_all_calls_compare(stub: Stub) -> None:
    def codes(*texts: str, **options: Any) -> tuple[Any, list[float]]:
        response = embed(stub, *texts, encoding=embedder_pb2.ENCODING_INT8, **options)
        values = np.frombuffer(response.vectors, np.int8).reshape(len(texts), -1).astype("f4")
        return values / np.linalg.norm(values, axis=1, keepdims=True), list(response.scale)

    for dimensions in (0, 64):
        alone, scale = codes(TEXTS[0], dimensions=dimensions)
        others, same_scale = codes(*TEXTS[1:], TEXTS[0], dimensions=dimensions)
        whole = vectors(embed(stub, *TEXTS, dimensions=dimensions))
        assert scale == same_scale
        assert float(alone[0] @ others[-1]) > 0.999
        assert alone @ others[:3].T == pytest.approx(whole[:1] @ whole[1:].T, abs=0.01)


def test_truncated_dimensions_are_normalised(stub: Stub) -> None:
    whole, cut = vectors(embed(stub, *TEXTS))[:, :64], vectors(embed(stub, *TEXTS, dimensions=64))
    assert np.linalg.norm(cut, axis=1) == pytest.approx(1, abs=1e-5)
    whole = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    assert (cut * whole).sum(1) == pytest.approx(1, abs=1e-3)


def test_images_of_every_format_are_embedded(stub: Stub) -> None:
    files = [
        saved(scene().convert(mode), kind)
        for kind, mode in (("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"),
                           ("PNG", "LA"), ("WEBP", "RGB"), ("GIF", "P"), ("BMP", "RGB"))
    ]  # fmt: skip
    found = vectors(embed(stub, *files))
    assert found.shape == (8, 256)
    assert np.isfinite(found).all()


def test_a_rotated_photograph_is_read_upright(stub: Stub) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees
    rotated = saved(scene().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    one, other = vectors(embed(stub, saved(scene(), "PNG"))), vectors(embed(stub, rotated))
    assert float(one[0] @ other[0]) > 0.9999


def test_bad_requests_are_refused(stub: Stub) -> None:
    def reason(*inputs: Any, **options: Any) -> tuple[Any, str]:
        request = embedder_pb2.EmbedRequest(inputs=inputs, **options)
        return refusal(stub.Embed, request)[:2]

    text = embedder_pb2.Input(text="a")
    image = embedder_pb2.Input(image=saved(scene(), "PNG"))
    assert reason() == (INVALID, "EMPTY_BATCH")
    assert reason(embedder_pb2.Input()) == (INVALID, "EMPTY_INPUT")
    assert reason(embedder_pb2.Input(text="")) == (INVALID, "EMPTY_TEXT")
    assert reason(embedder_pb2.Input(image=b"not an image")) == (INVALID, "NOT_A_PICTURE")
    assert reason(text, model="none") == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert reason(text, image) == (INVALID, "MIXED_MODALITIES")
    assert reason(image, model=DEFAULT_TEXT_MODEL) == (INVALID, "WRONG_MODALITY")
    assert reason(embedder_pb2.Input(audio=b"x")) == (INVALID, "NO_MODEL_FOR_MODALITY")
    assert reason(text, dimensions=1000) == (INVALID, "BAD_DIMENSIONS")
    assert reason(text, encoding=9) == (INVALID, "UNKNOWN_ENCODING")
    assert reason(*[text] * 2049) == (INVALID, "TOO_MANY_INPUTS")


def test_a_blank_text_has_a_vector(stub: Stub) -> None:
    blank, word = (vectors(embed(stub, text))[0] for text in (" \n", "word"))
    assert float(blank @ blank) > 0.9995
    assert float(blank @ word) < 0.9


def test_a_stream_responds_in_order_and_goes_on_after_an_error(stub: Stub) -> None:
    def requests() -> Iterator[embedder_pb2.EmbedStreamRequest]:
        for text in ("one", "", "two"):
            request = embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(text=text)])
            yield embedder_pb2.EmbedStreamRequest(request=request)

    first, bad, last = stub.EmbedStream(requests(), timeout=120)
    assert bad.error.reason == "EMPTY_TEXT"
    for response, text in ((first, "one"), (last, "two")):
        cosine = float(vectors(response.response)[0] @ vectors(embed(stub, text))[0])
        assert cosine > 0.9995


def test_token_ids_become_texts(stub: Stub) -> None:
    ids = [embedder_pb2.TokenIds(ids=one) for one in ([101, 7592, 2088, 102], [2088])]
    reply = stub.Detokenize(embedder_pb2.DetokenizeRequest(token_ids=ids))
    assert (reply.model, list(reply.texts)) == (DEFAULT_TEXT_MODEL, ["hello world", "world"])
    unknown = embedder_pb2.DetokenizeRequest(token_ids=[embedder_pb2.TokenIds(ids=[2**31])])
    assert refusal(stub.Detokenize, unknown)[:2] == (INVALID, "UNKNOWN_TOKEN")


def test_tokens_are_at_their_offsets(stub: Stub) -> None:
    text = "Grüße, memes!"
    response = stub.Tokenize(embedder_pb2.TokenizeRequest(texts=[text]))
    [tokens] = response.results
    parts = [text[start:end] for start, end in zip(tokens.starts, tokens.ends, strict=True)]
    assert "".join(parts) == text.replace(" ", "")
    assert tokens.count == len(parts) + 2


def test_models_are_listed_and_described(stub: Stub) -> None:
    response = stub.ListModels(embedder_pb2.ListModelsRequest(page_size=1))
    [first] = response.models
    rest = stub.ListModels(embedder_pb2.ListModelsRequest(page_token=response.next_page_token))
    assert [first.name, *(model.name for model in rest.models)] == [
        "all-MiniLM-L6-v2",
        "memetwin-convnet",
        "memetwin-question-pairs",
    ]
    model = stub.GetModel(embedder_pb2.GetModelRequest()).model
    assert (model.dimensions, model.max_tokens, model.ready) == (384, 256, True)
    assert len(model.digest) == 64
    reference, selected = model.trials[0], trial_of(model)
    assert (reference.runtime, reference.dtype) == ("torch", "float32")
    assert reference.found == reference.top1_hits > 20  # found is the deprecated name
    assert selected.top1_hits >= reference.top1_hits
    assert selected.mean_cosine > 0.99
    assert selected.batch_invariance > 0.9995
