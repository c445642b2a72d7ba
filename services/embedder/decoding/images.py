"""Decodes pictures that strangers send: bounded before anything is decoded."""

import io
import re
import warnings

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import Transpose

from services.errors import InvalidArgument

BYTES_LIMIT = 20 * 2**20
PIXELS_LIMIT = 40_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SCANS_LIMIT = 100
_FULL_SCALE = 65535
# What is to be done to a picture, by the orientation that EXIF says it has (its tag 274).
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_SCAN, _END = b"\xda", b"\xd9"


def decode(data: bytes, place: str) -> Image.Image:
    """Return a picture file's first frame, upright, as RGB or RGBA with 8 bits a channel.

    Args:
        data: a JPEG, PNG, WebP, GIF or BMP file.
        place: the request field to blame.

    Raises:
        InvalidArgument: it is no such picture, is cut off, or is too large.
    """
    if not data:
        raise InvalidArgument("EMPTY_PICTURE", "The picture is empty.", field=place)
    if len(data) > BYTES_LIMIT:
        raise _too_large(place, f"The file has more than {BYTES_LIMIT} bytes.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what we bound ourselves
        try:
            return _decode(data, place)
        except InvalidArgument:
            raise
        except Image.DecompressionBombError as error:  # even the header goes beyond Pillow's bound
            raise _too_large(place, "The picture has far too many pixels.") from error
        except (
            UnidentifiedImageError,
            OSError,
            SyntaxError,
            ValueError,
            TypeError,
            EOFError,
            IndexError,
            OverflowError,
        ) as error:
            raise InvalidArgument(
                "NOT_A_PICTURE",
                f"This is no whole picture file of type {', '.join(FORMATS)}.",
                field=place,
            ) from error


def _decode(data: bytes, place: str) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > PIXELS_LIMIT:
            raise _too_large(place, f"The picture has more than {PIXELS_LIMIT} pixels.")
        if width == 0 or height == 0:
            raise InvalidArgument("NOT_A_PICTURE", "The picture has no pixels.", field=place)
        if image.format in ("JPEG", "MPO") and _scans(data) > SCANS_LIMIT:
            raise _too_large(place, f"The JPEG has more than {SCANS_LIMIT} scans.")
        # JPEGs can be decoded at a fraction of their size, which no model of ours would notice.
        image.draft("RGB", (1024, 1024))
        image.load()
        return _eight_bits(_upright(image))


def _scans(data: bytes) -> int:
    """Count a JPEG's scans: a few bytes each may cost a pass over all pixels."""
    found, place = 0, 2
    while found <= SCANS_LIMIT and (marker := _MARKER.search(data, place)):
        if marker[1] == _END:
            break
        found += marker[1] == _SCAN
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return found


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # notes on a picture that cannot be read do not spoil it
        turn = None
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return image.convert("F").point(lambda value: value * (255 / _FULL_SCALE)).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("RGB")


def _too_large(place: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        "PICTURE_TOO_LARGE", message, field=place, bytes=BYTES_LIMIT, pixels=PIXELS_LIMIT
    )
