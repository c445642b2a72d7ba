"""Decodes pictures that strangers send: bounded before anything is decoded."""

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from services.errors import InvalidArgument

BYTES_LIMIT = 20 * 2**20
PIXELS_LIMIT = 40_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_FULL_SCALE = 65535


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
        # JPEGs can be decoded at a fraction of their size, which no model of ours would notice.
        image.draft("RGB", (1024, 1024))
        image.load()
        upright = ImageOps.exif_transpose(image)
        return _eight_bits(upright)


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
