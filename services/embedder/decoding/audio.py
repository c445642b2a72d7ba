"""Decodes audio files from untrusted callers. It checks formats and sizes before decoding."""

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

from services.embedder.models.model import AudioClip
from services.errors import InvalidArgument

MAX_BYTES = 20 * 2**20
MAX_SECONDS = 600
MAX_FRAMES = MAX_SECONDS * 48_000  # limits memory: at higher rates, fewer seconds are accepted
MAX_CHANNELS = 8
_MIN_RATE, _MAX_RATE = 1_000, 384_000
_BLOCK_FRAMES = 65_536
# libsndfile reads two dozen formats. Because only the common ones are accepted, rarely tested
# decoders never see untrusted files.
_MAGIC_NUMBERS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3")
_FORMATS = {"WAV", "WAVEX", "RF64", "AIFF", "FLAC", "OGG", "MP3"}
_ENCODINGS = {
    *("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    *("VORBIS", "OPUS", "MPEG_LAYER_III"),
}


def decode(data: bytes, field: str) -> AudioClip:
    """Return the samples of an audio file, mixed to one channel, from -1 to 1.

    NaN samples become silence, and infinite samples are clipped.

    Args:
        data: a WAV, FLAC, Ogg (Vorbis, Opus), MP3 or AIFF file.
        field: the request field to name in errors.

    Raises:
        InvalidArgument: the file is of another type, damaged, without samples, or too large.
    """
    if not data:
        raise InvalidArgument("EMPTY_SOUND", "The audio is empty.", field=field)
    if len(data) > MAX_BYTES:
        raise _too_large(field, f"The file has more than {MAX_BYTES} bytes.")
    if not _has_known_magic(data):
        raise _not_audio(field)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return _read(file, field)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        raise _not_audio(field) from error


def _has_known_magic(data: bytes) -> bool:
    """Return whether a file starts like one of the formats, or with an MPEG frame header."""
    sync_word = len(data) > 1 and data[0] == 0xFF and data[1] >= 0xE0  # noqa: PLR2004 - 11 set bits
    return sync_word or data.startswith(_MAGIC_NUMBERS)


def _read(file: soundfile.SoundFile, field: str) -> AudioClip:
    if file.format not in _FORMATS or file.subtype not in _ENCODINGS:
        raise _not_audio(field)
    rate = file.samplerate
    if not _MIN_RATE <= rate <= _MAX_RATE or file.channels > MAX_CHANNELS:
        raise _too_large(
            field,
            f"The audio has {file.channels} channels at {rate} Hz. The limit is {MAX_CHANNELS}"
            f" channels at {_MIN_RATE} to {_MAX_RATE} Hz.",
        )
    # A header may claim more frames than the file has, so memory grows only with the frames that
    # are read.
    max_frames, frames, blocks = min(MAX_SECONDS * rate, MAX_FRAMES), 0, []
    while frames <= max_frames:
        block = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(_to_mono(block))
        frames += len(block)
    if frames > max_frames:
        raise _too_large(field, f"The audio is longer than {max_frames // rate} seconds.")
    if not frames:
        raise InvalidArgument("NOT_A_SOUND", "The audio has no samples.", field=field)
    return AudioClip(np.concatenate(blocks), rate)


def _to_mono(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mix a block, float32 [frames, channels], to float32 [frames]."""
    finite = np.nan_to_num(block, posinf=1, neginf=-1).clip(-1, 1)
    mono: NDArray[np.float32] = finite.mean(1)
    return mono


def _not_audio(field: str) -> InvalidArgument:
    return InvalidArgument(
        "NOT_A_SOUND",
        "The file is damaged, truncated or not one of WAV, FLAC, Ogg, MP3, AIFF.",
        field=field,
    )


def _too_large(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        "SOUND_TOO_LARGE", message, field=field, max_bytes=MAX_BYTES, max_seconds=MAX_SECONDS
    )
