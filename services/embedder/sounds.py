"""Decodes sounds that strangers send: bounded before anything is decoded."""

import io

import numpy as np
import soundfile

from services.embedder.models.model import Sound
from services.errors import InvalidArgument

BYTES_LIMIT = 20 * 2**20
SECONDS_LIMIT = 600
CHANNELS_LIMIT = 8
_RATES = (1_000, 384_000)


def decode(data: bytes, place: str) -> Sound:
    """Return a sound file's samples, its channels mixed into one.

    Args:
        data: a file that libsndfile reads: WAV, FLAC, Ogg, MP3, AIFF, …
        place: the request field to blame.

    Raises:
        InvalidArgument: it is no such file, has no samples, or is too large.
    """
    if not data:
        raise InvalidArgument("EMPTY_SOUND", "The sound is empty.", field=place)
    if len(data) > BYTES_LIMIT:
        raise _too_large(place, f"The file has more than {BYTES_LIMIT} bytes.")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return _read(file, place)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        raise InvalidArgument(
            "NOT_A_SOUND", "This is no whole sound file (WAV, FLAC, Ogg, MP3, AIFF).", field=place
        ) from error


def _read(file: soundfile.SoundFile, place: str) -> Sound:
    rate = file.samplerate
    if not _RATES[0] <= rate <= _RATES[1] or file.channels > CHANNELS_LIMIT:
        raise _too_large(place, "The sound's rate or number of channels is out of bounds.")
    # What a header promises need not be there: no more is read than may be.
    samples = file.read(SECONDS_LIMIT * rate + 1, dtype="float32", always_2d=True)
    if len(samples) > SECONDS_LIMIT * rate:
        raise _too_large(place, f"The sound lasts more than {SECONDS_LIMIT} seconds.")
    if not len(samples):
        raise InvalidArgument("NOT_A_SOUND", "The sound has no samples.", field=place)
    return Sound(np.nan_to_num(samples.mean(1)).clip(-1, 1), rate)


def _too_large(place: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        "SOUND_TOO_LARGE", message, field=place, bytes=BYTES_LIMIT, seconds=SECONDS_LIMIT
    )
