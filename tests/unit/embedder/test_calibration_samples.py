import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from services.embedder.calibration_samples import SAMPLES
from services.embedder.models.model import AudioClip


def test_there_are_as_many_samples_of_each_modality() -> None:
    assert {name: len(samples()) for name, samples in SAMPLES.items()} == dict.fromkeys(
        ("text", "image", "audio"), 48
    )


def test_texts_are_distinct() -> None:
    texts = SAMPLES["text"]()
    assert len(set(map(json.dumps, texts))) == len(texts)


def test_images_range_from_coarse_to_fine() -> None:
    contrasts = []
    for image in SAMPLES["image"]():
        assert isinstance(image, Image.Image)
        assert (image.size, image.mode) == ((256, 256), "RGB")
        pixels = np.asarray(image, np.float32)
        contrasts.append(float(np.abs(np.diff(pixels, axis=0)).mean()))
    assert contrasts[-1] > 5 * contrasts[0]


def test_audio_rises_in_pitch_and_never_clips() -> None:
    crossings = []
    for clip in SAMPLES["audio"]():
        assert isinstance(clip, AudioClip)
        assert (clip.sample_rate, clip.samples.dtype.name, len(clip.samples)) == (
            48_000,
            "float32",
            48_000,
        )
        assert np.abs(clip.samples).max() <= 1
        crossings.append(int(np.sum(np.diff(np.signbit(clip.samples)))))
    assert crossings[0] < 200
    assert crossings[-1] > 10_000


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_samples_are_the_same_each_time(modality: str) -> None:
    first, again = SAMPLES[modality](), SAMPLES[modality]()
    assert list(map(_digest, first)) == list(map(_digest, again))


def _digest(content: object) -> str:
    data = content.samples if isinstance(content, AudioClip) else np.asarray(content)
    return hashlib.sha256(data.tobytes()).hexdigest()
