"""Decodes image files from untrusted callers. It checks sizes before it decodes pixels."""

import io
import re
import warnings

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import Transpose

from services.errors import InvalidArgument

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 40_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_SCANS = 100
_MAX_16_BIT = 65535
# The transposition that turns an image upright, by EXIF orientation (tag 274).
_TRANSPOSITIONS = {
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


def decode(data: bytes, field: str) -> Image.Image:
    """Return the first frame of an image file, upright, as RGB or RGBA with 8 bits per channel.

    Args:
        data: a JPEG, PNG, WebP, GIF or BMP file.
        field: the request field that errors name.

    Raises:
        InvalidArgument: the file is of another type, damaged, truncated or too large.
    """
    if not data:
        raise InvalidArgument("EMPTY_PICTURE", "The image is empty.", field=field)
    if len(data) > MAX_BYTES:
        raise _too_large(field, f"The file has more than {MAX_BYTES} bytes.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about sizes that we limit ourselves
        try:
            return _decode(data, field)
        except InvalidArgument:
            raise
        except Image.DecompressionBombError as error:  # the header exceeds Pillow's own limit
            raise _too_large(field, f"The image has more than {MAX_PIXELS} pixels.") from error
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
                f"The file is damaged, truncated or not one of {', '.join(FORMATS)}.",
                field=field,
            ) from error


def _decode(data: bytes, field: str) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise _too_large(field, f"The image has more than {MAX_PIXELS} pixels.")
        if width == 0 or height == 0:
            raise InvalidArgument("NOT_A_PICTURE", "The image has no pixels.", field=field)
        if image.format in ("JPEG", "MPO") and _count_scans(data) > MAX_SCANS:
            raise _too_large(field, f"The JPEG has more than {MAX_SCANS} scans.")
        # Decode large JPEGs at a fraction of their size, because models read far fewer pixels.
        image.draft("RGB", (1024, 1024))
        image.load()
        return _to_rgb(_apply_orientation(image))


def _count_scans(data: bytes) -> int:
    """Count a JPEG's scans, because a scan of a few bytes may cost a pass over all pixels.

    Counting stops one above ``MAX_SCANS``. Markers: ITU-T T.81, table B.1.
    """
    count, offset = 0, 2
    while count <= MAX_SCANS and (marker := _MARKER.search(data, offset)):
        if marker[1] == _END:
            break
        count += marker[1] == _SCAN
        offset = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return count


def _apply_orientation(image: Image.Image) -> Image.Image:
    try:
        transposition = _TRANSPOSITIONS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # unreadable EXIF data does not make the image unusable
        transposition = None
    return image if transposition is None else image.transpose(transposition)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return image.convert("F").point(lambda value: value * (255 / _MAX_16_BIT)).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("RGB")


def _too_large(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        "PICTURE_TOO_LARGE", message, field=field, max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS
    )
