"""Unusual, damaged and hostile files: each yields the right vector or a refusal, never a crash.

The embedder runs in its own process, so that a crash, a hang or a leak is visible.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.embedder.v1 import embedder_pb2
from tests import small_models
from tests.embedder_process import EmbedderProcess
from tests.media_files import (
    INVALID_AUDIO,
    INVALID_IMAGES,
    audio_file,
    extreme_audio,
    saved,
    scene,
    stereo,
    tone,
    valid_audio,
    valid_images,
)

OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
FUZZED_FILES = 500  # of images, and of audio
CONCURRENT_CALLS = 16
TIMEOUT = 120.0  # of a hang; a call takes a fraction of a second
MIN_COSINE = 0.99


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbedderProcess]:
    clap = str(small_models.clap(tmp_path_factory.mktemp("clap")))
    models = {"MEMETWIN_TEXT_MODEL": clap, "MEMETWIN_AUDIO_MODEL": clap}
    running = EmbedderProcess(os.environ | models | {"MEMETWIN_EMBED_CACHE": "0"})
    yield running
    assert running.process.poll() is None, "the embedder has crashed"
    running.stop()


def input_of(kind: str, data: bytes) -> embedder_pb2.Input:
    if kind == "image":
        return embedder_pb2.Input(image=data)
    return embedder_pb2.Input(audio=data)


def embed(embedder: EmbedderProcess, kind: str, files: Sequence[bytes]) -> Any:
    inputs = [input_of(kind, data) for data in files]
    reply = embedder.stub.Embed(embedder_pb2.EmbedRequest(inputs=inputs), timeout=TIMEOUT)
    return np.frombuffer(reply.vectors, "<f4").reshape(len(inputs), reply.dimensions)


def embed_each(
    embedder: EmbedderProcess, kind: str, files: Sequence[bytes]
) -> Iterator[tuple[grpc.StatusCode, Any]]:
    """Embed each file in its own call, several at a time; yield codes and vectors in order."""
    requests = [embedder_pb2.EmbedRequest(inputs=[input_of(kind, data)]) for data in files]
    for first in range(0, len(requests), CONCURRENT_CALLS):
        part = requests[first : first + CONCURRENT_CALLS]
        for call in [embedder.stub.Embed.future(one, timeout=TIMEOUT) for one in part]:
            code = call.code()
            reply = call.result() if code == OK else None
            yield code, np.frombuffer(reply.vectors, "<f4")[None] if reply else None


def test_unusual_images_have_the_vectors_of_plain_ones(embedder: EmbedderProcess) -> None:
    files = valid_images()
    unusual = embed(embedder, "image", [data for data, _ in files.values()])
    plain = embed(embedder, "image", [saved(image, "PNG") for _, image in files.values()])
    cosines = dict(zip(files, (unusual * plain).sum(1), strict=True))
    assert {name: cosine for name, cosine in cosines.items() if cosine < MIN_COSINE} == {}
    rotated = embed(embedder, "image", [saved(scene().rotate(90), "PNG")])
    assert rotated[0] @ plain[0] < MIN_COSINE, "a rotated scene should be another image"


def test_unusual_audio_has_the_vector_of_plain_audio(embedder: EmbedderProcess) -> None:
    noise = np.random.default_rng(1).normal(size=14_400) / 5
    plain, other = embed(embedder, "audio", [audio_file(tone()), audio_file(noise)])
    unusual = embed(embedder, "audio", list(valid_audio().values()))
    cosines = dict(zip(valid_audio(), unusual @ plain, strict=True))
    assert {name: cosine for name, cosine in cosines.items() if cosine < MIN_COSINE} == {}
    assert plain @ other < MIN_COSINE, "noise should be other audio"
    assert np.isfinite(embed(embedder, "audio", list(extreme_audio().values()))).all()


@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("image", name) for name in INVALID_IMAGES), *(("audio", name) for name in INVALID_AUDIO)],
)
def test_invalid_files_are_refused(embedder: EmbedderProcess, kind: str, name: str) -> None:
    file = (INVALID_IMAGES if kind == "image" else INVALID_AUDIO)[name]()
    with pytest.raises(grpc.RpcError) as refused:
        embed(embedder, kind, [file])
    assert refused.value.code() == INVALID
    assert f"inputs[0].{kind}" in str(refused.value.trailing_metadata())


def test_truncated_images_are_refused_or_whole(embedder: EmbedderProcess) -> None:
    plain = embed(embedder, "image", [saved(scene(), "PNG")])[0]
    refused = 0
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        whole = saved(scene(), kind)
        parts = [whole[: len(whole) * part // 12] for part in range(1, 12)]
        for code, rows in embed_each(embedder, "image", parts):
            refused += code == INVALID
            assert code == INVALID or rows[0] @ plain > MIN_COSINE
    assert refused > 45


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """Truncate, lengthen or change a file at random. Half of the changes are near its start."""
    data = bytearray(whole)
    match rng.randrange(6):
        case 0:
            del data[rng.randrange(len(data)) :]
        case 1:
            start = rng.randrange(len(data))
            del data[start : start + rng.randrange(1, 40)]
        case 2:
            start = rng.randrange(len(data))
            data[start:start] = rng.randbytes(rng.randrange(1, 40))
    reach = min(len(data), rng.choice((len(data), 128)))
    for _ in range(rng.choice((1, 1, 2, 8, 30)) if reach else 0):
        index = rng.randrange(reach)
        data[index] = rng.choice((data[index] ^ 1 << rng.randrange(8), 0, 255, 127))
    return bytes(data)


def images_to_damage() -> list[bytes]:
    names = (
        *("JPEG", "progressive JPEG", "CMYK JPEG", "JPEG with orientation 6", "PNG", "palette"),
        *("16 bits", "WebP", "transparent WebP", "GIF", "BMP"),
        *("animated GIF", "animated WebP", "animated PNG"),
    )
    return [*(valid_images()[name][0] for name in names), saved(scene(), "TIFF")]


def audio_to_damage() -> list[bytes]:
    return [audio_file(tone()), audio_file(stereo()), *valid_audio().values()]


@pytest.mark.parametrize(
    ("kind", "files"), [("image", images_to_damage), ("audio", audio_to_damage)]
)
def test_damaged_files_do_no_harm(
    embedder: EmbedderProcess, kind: str, files: Callable[[], list[bytes]]
) -> None:
    rng, whole = random.Random(7), files()
    fuzzed = [damaged(rng.choice(whole), rng) for _ in range(FUZZED_FILES)]
    before, memory = embed(embedder, kind, whole[:2]), embedder.memory()
    codes: Counter[grpc.StatusCode] = Counter()
    for code, rows in embed_each(embedder, kind, fuzzed):
        codes[code] += 1
        assert rows is None or (np.isfinite(rows).all() and np.linalg.norm(rows) > MIN_COSINE)
    assert set(codes) == {OK, INVALID}
    assert min(codes.values()) > FUZZED_FILES / 20
    assert embed(embedder, kind, whole[:2]) == pytest.approx(before, abs=1e-5)
    assert embedder.memory() < memory + 1000
