import numpy as np
import pytest

from services.embedder.decoding import audio
from services.errors import InvalidArgument
from tests.media_files import (
    INVALID_AUDIO,
    RATE,
    audio_file,
    extreme_audio,
    tone,
    valid_audio,
    with_gaps,
)

TOO_LARGE = {"9 channels", "384,001 Hz", "1 Hz", "too many bytes"}
ODD_HEADERS = {"65,535 channels", "4,294,967,295 Hz"}  # libsndfile may refuse them itself
SLOW = {"eleven minutes", "too many samples"}


@pytest.mark.parametrize("name", valid_audio())
def test_the_tone_is_found_in_every_format(name: str) -> None:
    clip = audio.decode(valid_audio()[name], "audio")
    assert (clip.samples.ndim, clip.samples.dtype.name) == (1, "float32")
    spectrum = np.abs(np.fft.rfft(clip.samples))
    assert np.argmax(spectrum) * clip.sample_rate / len(clip.samples) == pytest.approx(440, abs=5)
    assert np.sqrt(np.mean(clip.samples**2)) == pytest.approx(0.5 / np.sqrt(2), abs=0.05)


def test_channels_are_mixed_to_their_mean() -> None:
    both = np.stack([np.full(100, 0.5), np.full(100, -0.25)], 1)
    clip = audio.decode(audio_file(both, subtype="FLOAT"), "audio")
    assert clip.samples.tolist() == [0.125] * 100
    assert clip.sample_rate == RATE


@pytest.mark.parametrize("name", extreme_audio())
def test_extreme_samples_are_clipped_or_silent(name: str) -> None:
    clip = audio.decode(extreme_audio()[name], "audio")
    assert np.isfinite(clip.samples).all()
    assert np.abs(clip.samples).max() <= 1


def test_a_sample_that_is_not_a_number_is_silent_and_an_infinite_one_is_loud() -> None:
    clip = audio.decode(audio_file(with_gaps(), "WAV", "FLOAT"), "audio")
    assert (clip.samples[0], clip.samples[1], clip.samples[2]) == (0, 1, -1)
    assert clip.samples[50] == pytest.approx(tone()[50], abs=1e-6)


@pytest.mark.parametrize("name", sorted(INVALID_AUDIO.keys() - SLOW))
def test_other_files_are_refused_by_their_field(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        audio.decode(INVALID_AUDIO[name](), "inputs[3].audio")
    assert refused.value.field == "inputs[3].audio"
    if name not in ODD_HEADERS:
        reason = "SOUND_TOO_LARGE" if name in TOO_LARGE else "NOT_A_SOUND"
        assert refused.value.reason == ("EMPTY_SOUND" if name == "empty" else reason)


@pytest.mark.parametrize(("limit", "value"), [("MAX_SECONDS", 1), ("MAX_FRAMES", RATE)])
def test_long_audio_is_refused(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(audio, limit, value)
    assert len(audio.decode(audio_file(np.zeros(RATE)), "audio").samples) == RATE
    with pytest.raises(InvalidArgument, match="longer than 1 seconds") as refused:
        audio.decode(audio_file(np.zeros(RATE + 1)), "audio")
    assert refused.value.reason == "SOUND_TOO_LARGE"
