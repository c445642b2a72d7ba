import io
import os
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
from tests.embedder_process import EmbedderProcess, request
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
    return stub.Embed(embedder_pb2.EmbedRequest(inputs=messages, **options), timeout=60)


def rows(reply: Any) -> Any:
    return np.frombuffer(reply.vectors, "<f4").reshape(-1, reply.dimensions)


def picture(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (80, 60)) -> bytes:
    gradient = Image.linear_gradient("L").resize(size)
    colours = Image.merge("RGB", (gradient, gradient.rotate(180), gradient.rotate(90)))
    file = io.BytesIO()
    colours.convert(mode).save(file, kind)
    return file.getvalue()


def test_vectors_are_those_of_sentence_transformers() -> None:
    expected = load_sentence_transformer(DEFAULT_TEXT_MODEL)[0].encode(TEXTS)
    exact = EmbedderProcess(os.environ | {"MEMETWIN_RUNTIME": "exact"})
    reply = exact.stub.Embed(request(TEXTS), timeout=60)
    exact.stop()
    assert (rows(reply) * expected).sum(1).min() > 0.9999
    assert reply.model == DEFAULT_TEXT_MODEL
    assert list(reply.truncated) == [False, False, False, False]
    assert reply.tokens[1] == 3


def test_a_vector_does_not_depend_on_its_batch(stub: Stub) -> None:
    alone = np.vstack([rows(embed(stub, text)) for text in TEXTS])
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda n: rows(embed(stub, TEXTS[n % 4])), range(64)))
    assert min(float(row[0] @ alone[n % 4]) for n, row in enumerate(together)) > 0.9995


def test_long_texts_are_cut_or_refused(stub: Stub) -> None:
    long = "word " * 3000
    assert list(embed(stub, long).truncated) == [True]
    assert list(embed(stub, long).tokens) == [256]
    request = embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(text=long)], truncate=False)
    assert refusal(stub.Embed, request)[:2] == (INVALID, "TEXT_TOO_LONG")


def test_encodings_carry_the_same_vectors(stub: Stub) -> None:
    whole = rows(embed(stub, *TEXTS))
    half = embed(stub, *TEXTS, encoding=embedder_pb2.ENCODING_FLOAT16)
    assert np.frombuffer(half.vectors, "<f2").reshape(4, -1) == pytest.approx(whole, abs=1e-3)
    small = embed(stub, *TEXTS, encoding=embedder_pb2.ENCODING_INT8)
    values = np.frombuffer(small.vectors, np.int8).reshape(4, -1)
    assert values * np.array(small.scale) + np.array(small.offset) == pytest.approx(whole, abs=2e-3)
    bits = embed(stub, *TEXTS, encoding=embedder_pb2.ENCODING_BINARY)
    unpacked = np.unpackbits(np.frombuffer(bits.vectors, np.uint8).reshape(4, -1), axis=1)
    assert (unpacked == (whole > 0)).all()


def test_int8_codes_of_all_calls_compare(stub: Stub) -> None:
    def codes(*texts: str, **options: Any) -> tuple[Any, list[float]]:
        reply = embed(stub, *texts, encoding=embedder_pb2.ENCODING_INT8, **options)
        values = np.frombuffer(reply.vectors, np.int8).reshape(len(texts), -1).astype(np.float32)
        return values / np.linalg.norm(values, axis=1, keepdims=True), list(reply.scale)

    for cut in (0, 64):
        alone, scale = codes(TEXTS[0], dimensions=cut)
        others, same = codes(*TEXTS[1:], TEXTS[0], dimensions=cut)
        whole = rows(embed(stub, *TEXTS, dimensions=cut))
        assert scale == same
        assert float(alone[0] @ others[-1]) > 0.999
        assert alone @ others[:3].T == pytest.approx(whole[:1] @ whole[1:].T, abs=0.01)


def test_dimensions_are_cut_and_normalised(stub: Stub) -> None:
    whole, cut = rows(embed(stub, *TEXTS)), rows(embed(stub, *TEXTS, dimensions=64))
    assert np.linalg.norm(cut, axis=1) == pytest.approx(1, abs=1e-5)
    assert cut == pytest.approx(
        whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True), abs=1e-5
    )


def test_pictures_of_every_kind_are_embedded(stub: Stub) -> None:
    kinds = [
        picture("JPEG"),
        picture("JPEG", "CMYK"),
        picture("PNG", "RGBA"),
        picture("PNG", "P"),
        picture("PNG", "LA"),
        picture("WEBP"),
        picture("GIF", "P"),
        picture("BMP"),
    ]
    vectors = rows(embed(stub, *kinds))
    assert vectors.shape == (8, 256)
    assert np.isfinite(vectors).all()


def test_a_turned_photo_is_read_upright(stub: Stub) -> None:
    upright = Image.open(io.BytesIO(picture())).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    turned = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(turned, "PNG", exif=exif)
    one, other = rows(embed(stub, picture())), rows(embed(stub, turned.getvalue()))
    assert one == pytest.approx(other, abs=1e-4)


def bomb() -> bytes:
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "EMPTY_PICTURE"),
        (b"no picture", "NOT_A_PICTURE"),
        (picture("JPEG")[:300], "NOT_A_PICTURE"),
        (picture("PNG")[:100], "NOT_A_PICTURE"),
        (b"\xff" * (21 * 2**20), "PICTURE_TOO_LARGE"),
        (bomb(), "PICTURE_TOO_LARGE"),
    ],
    ids=["empty", "text", "cut JPEG", "cut PNG", "bytes", "bomb"],
)
def test_what_is_no_picture_is_refused(stub: Stub, data: bytes, reason: str) -> None:
    request = embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(image=data)])
    assert refusal(stub.Embed, request)[:2] == (INVALID, reason)


def test_fuzzed_pictures_are_embedded_or_refused(stub: Stub) -> None:
    random = np.random.default_rng(0)
    whole = [picture(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP")]
    for number in range(100):
        data = bytearray(whole[number % 5])
        for place in random.integers(0, len(data), 8):
            data[place] = random.integers(256)
        call = stub.Embed.future(
            embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(image=bytes(data))])
        )
        assert call.code() in (grpc.StatusCode.OK, INVALID)
        if call.code() == grpc.StatusCode.OK:
            assert np.isfinite(rows(call.result())).all()


def test_bad_requests_are_refused(stub: Stub) -> None:
    def ask(*inputs: Any, **options: Any) -> tuple[Any, str]:
        request = embedder_pb2.EmbedRequest(inputs=inputs, **options)
        return refusal(stub.Embed, request)[:2]

    text, image = embedder_pb2.Input(text="a"), embedder_pb2.Input(image=picture())
    assert ask() == (INVALID, "EMPTY_BATCH")
    assert ask(embedder_pb2.Input()) == (INVALID, "EMPTY_INPUT")
    assert ask(embedder_pb2.Input(text=" ")) == (INVALID, "EMPTY_TEXT")
    assert ask(text, model="none") == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert ask(text, image) == (INVALID, "MIXED_MODALITIES")
    assert ask(image, model=DEFAULT_TEXT_MODEL) == (INVALID, "WRONG_MODALITY")
    assert ask(embedder_pb2.Input(audio=b"x")) == (INVALID, "NO_MODEL_FOR_MODALITY")
    assert ask(text, dimensions=1000) == (INVALID, "BAD_DIMENSIONS")
    assert ask(text, encoding=9) == (INVALID, "UNKNOWN_ENCODING")
    assert ask(*[text] * 2049) == (INVALID, "TOO_MANY_INPUTS")


def test_a_stream_answers_in_order_and_goes_on_after_an_error(stub: Stub) -> None:
    def requests() -> Any:
        for text in ("one", "", "two"):
            request = embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(text=text)])
            yield embedder_pb2.EmbedStreamRequest(request=request)

    first, bad, last = stub.EmbedStream(requests(), timeout=30)
    assert bad.error.reason == "EMPTY_TEXT"
    assert rows(first.response) == pytest.approx(rows(embed(stub, "one")), abs=1e-3)
    assert rows(last.response) == pytest.approx(rows(embed(stub, "two")), abs=1e-3)


def test_tokens_lie_where_they_are_said_to(stub: Stub) -> None:
    text = "Grüße, memes!"
    reply = stub.Tokenize(embedder_pb2.TokenizeRequest(texts=[text]))
    [tokens] = reply.results
    pieces = [text[a:b] for a, b in zip(tokens.starts, tokens.ends, strict=True)]
    assert "".join(pieces) == text.replace(" ", "")
    assert tokens.count == len(pieces) + 2


def test_models_tell_what_they_are(stub: Stub) -> None:
    reply = stub.ListModels(embedder_pb2.ListModelsRequest(page_size=1))
    [first] = reply.models
    rest = stub.ListModels(embedder_pb2.ListModelsRequest(page_token=reply.next_page_token))
    assert [first.name, *(model.name for model in rest.models)] == [
        "all-MiniLM-L6-v2",
        "memetwin-convnet",
    ]
    model = stub.GetModel(embedder_pb2.GetModelRequest()).model
    assert (model.dimensions, model.max_tokens, model.ready) == (384, 256, True)
    assert len(model.digest) == 64
    reference, *others = model.trials
    assert (reference.runtime, reference.dtype, reference.found) == ("torch", "float32", 23)
    assert (model.runtime, model.dtype) in [(one.runtime, one.dtype) for one in model.trials]
    assert all(one.mean_cosine > 0.99 and one.independence > 0.9995 for one in others)
