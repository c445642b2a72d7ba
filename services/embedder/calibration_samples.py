"""Inputs of each modality that calibrate a model's INT8 scale.

They are the same on every machine.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from services.embedder.models.model import AudioClip, Content

_TEXTS = Path(__file__).with_name("models") / "sample.json"
_COUNT = 48
_IMAGE_SIDE = 256
_SAMPLE_RATE = 48_000


def _texts() -> list[Content]:
    pairs = json.loads(_TEXTS.read_text("utf-8"))
    return [text for pair in pairs for text in pair]


def _images() -> list[Content]:
    """Return random colour fields, from 2 × 2 cells upward, blurred to a common size."""
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8)).resize(
            (_IMAGE_SIDE, _IMAGE_SIDE), Image.Resampling.BICUBIC
        )
        for cells in range(2, 2 + _COUNT)
    ]


def _audio() -> list[Content]:
    """Return clips of one second: tones from 60 Hz to 8 kHz, with increasing noise."""
    rng, time = np.random.default_rng(0), np.arange(_SAMPLE_RATE) / _SAMPLE_RATE
    frequencies = np.geomspace(60, 8_000, _COUNT)
    noise_levels = np.geomspace(0.001, 0.5, _COUNT)
    clips = []
    for frequency, noise_level in zip(frequencies, noise_levels, strict=True):
        tone = 0.5 * np.sin(2 * np.pi * frequency * time)
        noise = noise_level * rng.uniform(-1, 1, _SAMPLE_RATE)
        clips.append(AudioClip((tone + noise).astype(np.float32), _SAMPLE_RATE))
    return list(clips)


SAMPLES: dict[str, Callable[[], list[Content]]] = {
    "text": _texts,
    "image": _images,
    "audio": _audio,
}
