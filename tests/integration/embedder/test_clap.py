"""The real loading path of CLAP-like models, on one with two layers and random weights."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sentence_transformers import SentenceTransformer

from services.embedder.models.sentence_transformer import SentenceTransformerModel
from services.embedder.registry import Models, Spec
from services.embedder.requests import Order, SoundFile
from services.embedder.service import Embedded, Embedding
from services.errors import InvalidArgument
from tests import small_models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture
async def embedding(folder: Path) -> AsyncIterator[Embedding]:
    name = str(folder)
    spec = Spec(name, frozenset({"text", "audio"}), lambda: SentenceTransformerModel.load(name))
    async with Models([spec], 100_000) as models:
        await models.find(name).loaded.wait()
        embedding = Embedding(models)
        yield embedding
        embedding.close()


def tone(pitch: float, seconds: float = 1.0, rate: int = 48_000) -> Any:
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)


def sound(samples: Any, rate: int = 48_000, kind: str = "WAV") -> SoundFile:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return SoundFile(file.getvalue())


def rows(reply: Embedded) -> Any:
    return np.frombuffer(reply.packed.data, "<f4").reshape(-1, reply.packed.dimensions)


async def test_texts_and_sounds_share_a_request(embedding: Embedding, folder: Path) -> None:
    encode: Any = SentenceTransformer(str(folder), device="cpu").encode
    samples = soundfile.read(io.BytesIO(sound(tone(440))), dtype="float32")[0]
    expected = [encode("abell"), encode({"array": samples, "sampling_rate": 48_000})]
    reply = await embedding.embed(
        Order(["abell", sound(tone(440)), sound(tone(3000))], normalize=False)
    )
    assert reply.info.modalities == {"text", "audio"}
    assert rows(reply)[:2] == pytest.approx(np.array(expected), abs=1e-4)
    assert np.abs(rows(reply)[1] - rows(reply)[2]).max() > 1e-3


async def test_the_file_does_not_matter_but_the_sound(embedding: Embedding) -> None:
    twice = np.stack([tone(440), tone(440)], axis=1)
    kinds = [
        sound(tone(440)),
        sound(twice),
        sound(tone(440, rate=16_000), 16_000),
        sound(tone(440), kind="FLAC"),
        sound(tone(440), kind="OGG"),
    ]
    found = rows(await embedding.embed(Order(kinds)))
    assert (found @ found[0]).min() > 0.99


async def test_a_long_sound_is_cut_and_always_at_the_same_place(embedding: Embedding) -> None:
    noise = np.random.default_rng(0).normal(size=15 * 16_000) / 10
    first = await embedding.embed(Order([sound(noise, 16_000)]))
    again = await embedding.embed(Order([sound(noise, 16_000)]))
    assert first.truncated == [True]
    assert rows(first) == pytest.approx(rows(again), abs=1e-6)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "EMPTY_SOUND"),
        (b"no sound", "NOT_A_SOUND"),
        (bytes(sound(tone(440)))[:40], "NOT_A_SOUND"),
        (bytes(sound(np.zeros(0))), "NOT_A_SOUND"),
        (b"\0" * (21 * 2**20), "SOUND_TOO_LARGE"),
        (bytes(sound(np.zeros(601 * 1000), 1000, "FLAC")), "SOUND_TOO_LARGE"),
    ],
    ids=["empty", "text", "cut", "no samples", "bytes", "seconds"],
)
async def test_what_is_no_sound_is_refused(embedding: Embedding, data: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await embedding.embed(Order([SoundFile(data)]))
    assert caught.value.reason == reason


async def test_fuzzed_sounds_are_embedded_or_refused(embedding: Embedding) -> None:
    random = np.random.default_rng(0)
    whole = [sound(tone(440, 0.2), kind=kind) for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF")]
    reasons, computed = set[str](), 0
    for number in range(60):
        data = bytearray(whole[number % 5])
        for place in random.integers(0, min(len(data), 400), 6):
            data[place] = random.integers(256)
        try:
            reply = await embedding.embed(Order([SoundFile(data)]))
        except InvalidArgument as refused:
            reasons.add(refused.reason)
        else:
            assert np.isfinite(rows(reply)).all()
            computed += 1
    assert reasons <= {"NOT_A_SOUND", "SOUND_TOO_LARGE"}
    assert 0 < computed < 60
