"""CLAP-like models on the real loading path; the model has two layers and random weights."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sentence_transformers import SentenceTransformer

from services.embedder.models.sentence_transformer import SentenceTransformerModel
from services.embedder.registry import ModelRegistry, ModelSpec
from services.embedder.requests import AudioFile, EmbedRequest
from services.embedder.service import EmbeddingService, EmbedResult
from services.errors import InvalidArgument
from tests import small_models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture
async def service(folder: Path) -> AsyncIterator[EmbeddingService]:
    name = str(folder)
    spec = ModelSpec(
        name, frozenset({"text", "audio"}), lambda: SentenceTransformerModel.load(name)
    )
    async with ModelRegistry([spec], 100_000) as registry:
        await registry.find(name).load_finished.wait()
        service = EmbeddingService(registry)
        yield service
        service.close()


def tone(pitch: float, seconds: float = 1.0, rate: int = 48_000) -> Any:
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)


def audio_file(samples: Any, rate: int = 48_000, kind: str = "WAV") -> AudioFile:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return AudioFile(file.getvalue())


def rows(reply: EmbedResult) -> Any:
    return np.frombuffer(reply.vectors.data, "<f4").reshape(-1, reply.vectors.dimensions)


async def test_texts_and_audio_share_a_request(service: EmbeddingService, folder: Path) -> None:
    encode: Any = SentenceTransformer(str(folder), device="cpu").encode
    samples = soundfile.read(io.BytesIO(audio_file(tone(440))), dtype="float32")[0]
    expected = [encode("abell"), encode({"array": samples, "sampling_rate": 48_000})]
    reply = await service.embed(
        EmbedRequest(["abell", audio_file(tone(440)), audio_file(tone(3000))], normalize=False)
    )
    assert reply.info.modalities == {"text", "audio"}
    assert rows(reply)[:2] == pytest.approx(np.array(expected), abs=1e-4)
    assert np.abs(rows(reply)[1] - rows(reply)[2]).max() > 1e-3


async def test_the_vector_depends_on_the_audio_not_on_the_file_format(
    service: EmbeddingService,
) -> None:
    twice = np.stack([tone(440), tone(440)], axis=1)
    kinds = [
        audio_file(tone(440)),
        audio_file(twice),
        audio_file(tone(440, rate=16_000), 16_000),
        audio_file(tone(440), kind="FLAC"),
        audio_file(tone(440), kind="OGG"),
    ]
    found = rows(await service.embed(EmbedRequest(kinds)))
    assert (found @ found[0]).min() > 0.99


async def test_a_long_clip_is_always_cut_at_the_same_position(
    service: EmbeddingService,
) -> None:
    noise = np.random.default_rng(0).normal(size=15 * 16_000) / 10
    first = await service.embed(EmbedRequest([audio_file(noise, 16_000)]))
    again = await service.embed(EmbedRequest([audio_file(noise, 16_000)]))
    assert first.truncated == [True]
    assert rows(first) == pytest.approx(rows(again), abs=1e-4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "EMPTY_SOUND"),
        (b"no sound", "NOT_A_SOUND"),
        (bytes(audio_file(tone(440)))[:40], "NOT_A_SOUND"),
        (bytes(audio_file(np.zeros(0))), "NOT_A_SOUND"),
        (b"\0" * (21 * 2**20), "SOUND_TOO_LARGE"),
        (bytes(audio_file(np.zeros(601 * 1000), 1000, "FLAC")), "SOUND_TOO_LARGE"),
    ],
    ids=["empty", "text", "cut", "no samples", "bytes", "seconds"],
)
async def test_data_that_are_not_audio_are_refused(
    service: EmbeddingService, data: bytes, reason: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await service.embed(EmbedRequest([AudioFile(data)]))
    assert caught.value.reason == reason


async def test_fuzzed_audio_is_embedded_or_refused(service: EmbeddingService) -> None:
    rng = np.random.default_rng(0)
    whole = [
        audio_file(tone(440, 0.2), kind=kind) for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF")
    ]
    reasons, computed = set[str](), 0
    for number in range(60):
        data = bytearray(whole[number % 5])
        for position in rng.integers(0, min(len(data), 400), 6):
            data[position] = rng.integers(256)
        try:
            reply = await service.embed(EmbedRequest([AudioFile(data)]))
        except InvalidArgument as refused:
            reasons.add(refused.reason)
        else:
            assert np.isfinite(rows(reply)).all()
            computed += 1
    assert reasons <= {"NOT_A_SOUND", "SOUND_TOO_LARGE"}
    assert 0 < computed < 60
