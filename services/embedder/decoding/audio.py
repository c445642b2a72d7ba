"""Decodes sounds that strangers send: bounded before anything is decoded."""

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

from services.embedder.models.model import AudioClip
from services.errors import InvalidArgument

BYTES_LIMIT = 20 * 2**20
SECONDS_LIMIT = 600
FRAMES_LIMIT = SECONDS_LIMIT * 48_000  # at higher rates fewer seconds: memory is what they cost
CHANNELS_LIMIT = 8
_RATES = (1_000, 384_000)
_BLOCK = 65_536
# libsndfile would read two dozen formats; whoever sends one of the others means no good.
_BEGINNINGS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3")
_FORMATS = {"WAV", "WAVEX", "RF64", "AIFF", "FLAC", "OGG", "MP3"}
_ENCODINGS = {
    *("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    *("VORBIS", "OPUS", "MPEG_LAYER_III"),
}


def decode(data: bytes, place: str) -> AudioClip:
    """Return a sound file's samples, its channels mixed into one; what is no number is silence.

    Args:
        data: a WAV, FLAC, Ogg (Vorbis, Opus), MP3 or AIFF file.
        place: the request field to blame.

    Raises:
        InvalidArgument: it is no such file, has no samples, or is too large.
    """
    if not data:
        raise InvalidArgument("EMPTY_SOUND", "The sound is empty.", field=place)
    if len(data) > BYTES_LIMIT:
        raise _too_large(place, f"The file has more than {BYTES_LIMIT} bytes.")
    if not _begins_well(data):
        raise _no_sound(place)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return _read(file, place)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        raise _no_sound(place) from error


def _begins_well(data: bytes) -> bool:
    """Say whether a file begins as the formats do, or as a frame of MPEG."""
    mpeg = len(data) > 1 and data[0] == 0xFF and data[1] >= 0xE0  # noqa: PLR2004 - eleven bits set
    return mpeg or data.startswith(_BEGINNINGS)


def _read(file: soundfile.SoundFile, place: str) -> AudioClip:
    if file.format not in _FORMATS or file.subtype not in _ENCODINGS:
        raise _no_sound(place)
    rate = file.samplerate
    if not _RATES[0] <= rate <= _RATES[1] or file.channels > CHANNELS_LIMIT:
        raise _too_large(place, "The sound's rate or number of channels is out of bounds.")
    # What a header promises need not be there: memory grows with what is read alone.
    most, read, blocks = min(SECONDS_LIMIT * rate, FRAMES_LIMIT), 0, []
    while read <= most and len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        blocks.append(_mixed(block))
        read += len(block)
    if read > most:
        raise _too_large(place, f"The sound lasts more than {most // rate} seconds.")
    if not read:
        raise InvalidArgument("NOT_A_SOUND", "The sound has no samples.", field=place)
    return AudioClip(np.concatenate(blocks), rate)


def _mixed(block: NDArray[np.float32]) -> NDArray[np.float32]:
    known = np.nan_to_num(block, posinf=1, neginf=-1).clip(-1, 1)
    mixed: NDArray[np.float32] = known.mean(1)
    return mixed


def _no_sound(place: str) -> InvalidArgument:
    return InvalidArgument(
        "NOT_A_SOUND", "This is no whole sound file (WAV, FLAC, Ogg, MP3, AIFF).", field=place
    )


def _too_large(place: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        "SOUND_TOO_LARGE", message, field=place, bytes=BYTES_LIMIT, seconds=SECONDS_LIMIT
    )
