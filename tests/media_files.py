"""Image and audio files of every kind: valid, unusual, damaged and hostile ones."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from services.embedder.decoding import images

RATE = 48_000


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def scene(size: tuple[int, int] = (96, 72)) -> Image.Image:
    """Return an image that looks different when it is rotated or mirrored. Do not modify it."""
    gradient = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", (gradient, gradient.rotate(180), gradient.rotate(90)))
    image.paste((250, 240, 20), (8, 8, 30, 50))
    image.paste((10, 10, 10), (60, 40, 90, 48))
    return image


def grey_scene() -> Image.Image:
    return scene().convert("L").convert("RGB")


def with_transparent_corner() -> Image.Image:
    image = scene().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 40, 30))
    return image


def on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def palette_with_a_transparent_colour() -> tuple[bytes, Image.Image]:
    """A PNG with 63 colours and a transparent one, and how it looks on white."""
    indexed = scene().quantize(63)
    indexed.putpalette([*(indexed.getpalette() or [])[: 63 * 3], 1, 2, 3])
    looks = indexed.convert("RGB")
    looks.paste("white", (0, 0, 40, 30))
    indexed.paste(63, (0, 0, 40, 30))
    return saved(indexed, "PNG", transparency=63), looks


def grey_16_bit_png() -> bytes:
    grey = np.asarray(scene().convert("L")).astype(np.uint16) * 257
    return saved(Image.fromarray(grey), "PNG")


def rgb_16_bit_png() -> bytes:
    """A PNG with 16 bits for each of three channels, which Pillow does not write."""
    values = np.asarray(scene()).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    return png((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def png_header(width: int, height: int) -> bytes:
    return struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


def rotated(orientation: int, kind: str) -> bytes:
    """The scene as a rotated camera stores it; EXIF holds the orientation."""
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions
    image = scene()
    if orientation in inverse:
        image = image.transpose(Image.Transpose(inverse[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, kind, exif=exif)


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (96, 72), (60 * n, 0, 0)) for n in range(1, 4)]
    return saved(scene(), kind, save_all=True, append_images=frames, duration=50)


def jpeg_of_many_scans() -> bytes:
    """A JPEG that repeats its last scan.

    Each scan has a few bytes and costs a pass over all pixels.
    """
    whole = saved(Image.new("L", (8000, 5000)), "JPEG", progressive=True)
    scan = whole[whole.rfind(b"\xff\xc4", 0, whole.rfind(b"\xff\xda")) : -2]
    return whole[:-2] + scan * 2000 + b"\xff\xd9"


@cache
def valid_images() -> Mapping[str, tuple[bytes, Image.Image]]:
    """Files by what is unusual about them, each with the image as it looks on white."""
    grey, corner = grey_scene(), on_white(with_transparent_corner())
    return {
        "PNG": (saved(scene(), "PNG"), scene()),
        "JPEG": (saved(scene(), "JPEG", quality=95), scene()),
        "progressive JPEG": (saved(scene(), "JPEG", quality=95, progressive=True), scene()),
        "CMYK JPEG": (saved(scene().convert("CMYK"), "JPEG", quality=95), scene()),
        "grey JPEG": (saved(grey.convert("L"), "JPEG", quality=95), grey),
        "JPEG with data after its end": (
            saved(scene(), "JPEG", quality=95) + b"more" * 99, scene()),
        "MPO of two images": (
            saved(scene(), "MPO", quality=95, save_all=True, append_images=[grey]), scene()),
        "JPEG with damaged EXIF data": (
            saved(scene(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), scene()),
        "palette": (saved(scene().quantize(256), "PNG"), scene()),
        "palette with a transparent colour": palette_with_a_transparent_colour(),
        "transparent PNG": (saved(with_transparent_corner(), "PNG"), corner),
        "transparent WebP": (saved(with_transparent_corner(), "WEBP", lossless=True), corner),
        "transparent GIF": (saved(with_transparent_corner(), "GIF"), corner),
        "grey with alpha": (saved(scene().convert("LA"), "PNG"), grey),
        "16 bits": (grey_16_bit_png(), grey),
        "48 bits": (rgb_16_bit_png(), scene()),
        "WebP": (saved(scene(), "WEBP", quality=95), scene()),
        "GIF": (saved(scene(), "GIF"), scene()),
        "BMP": (saved(scene(), "BMP"), scene()),
        "animated GIF": (animated("GIF"), scene()),
        "animated WebP": (animated("WEBP"), scene()),
        "animated PNG": (animated("PNG"), scene()),
        **{f"{kind} with orientation {n}": (rotated(n, kind), scene())
           for n in range(1, 9) for kind in ("JPEG", "PNG", "WEBP")},
    }  # fmt: skip


# Files that are refused, by what is wrong with them; each is made when it is needed.
INVALID_IMAGES: dict[str, Callable[[], bytes]] = {
    "empty": bytes,
    "zeros": lambda: bytes(1000),
    "text": lambda: b"not an image at all",
    "no magic number": lambda: saved(scene(), "PNG")[8:],
    "magic number alone": lambda: b"\x89PNG\r\n\x1a\n",
    "TIFF": lambda: saved(scene(), "TIFF"),
    "ICO": lambda: saved(scene(), "ICO"),
    "PPM": lambda: saved(scene(), "PPM"),
    "EPS": lambda: saved(scene(), "EPS"),
    "PDF": lambda: saved(scene(), "PDF"),
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
    "audio": lambda: b"RIFF\x24\0\0\0WAVEfmt ",
    "huge PNG": lambda: png(
        (b"IHDR", png_header(100_000, 100_000)), (b"IDAT", zlib.compress(bytes(9)))
    ),
    "wide PNG": lambda: png(
        (b"IHDR", png_header(2**31 - 1, 1)), (b"IDAT", zlib.compress(bytes(9)))
    ),
    "PNG without pixels": lambda: png(
        (b"IHDR", png_header(0, 0)), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")
    ),
    "decompression bomb": lambda: saved(Image.new("1", (30_000, 2_000)), "PNG"),
    "huge GIF": lambda: b"GIF89a\xff\xff\xff\xff\x80\0\0" + saved(scene(), "GIF")[13:],
    "huge BMP": lambda: (
        saved(scene(), "BMP")[:18] + struct.pack("<ii", 60_000, -60_000) + bytes(60)
    ),
    "JPEG of many scans": jpeg_of_many_scans,
    "too many bytes": lambda: saved(scene(), "PNG") + bytes(images.MAX_BYTES),
}


def tone(seconds: float = 0.3, rate: int = RATE) -> Any:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)


def audio_file(
    samples: Any, kind: str = "WAV", subtype: str | None = None, rate: int = RATE
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def wav(rate: int, channels: int, bits: int = 16, data: bytes = bytes(4000)) -> bytes:
    """A WAV file whose header may claim anything."""
    width = channels * bits // 8
    form = struct.pack(
        "<HHIIHH", 1, channels, rate, rate * width % 2**32, width % 2**16, bits)  # fmt: skip
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


def with_gaps() -> Any:
    """Samples, some of which are NaN, infinite or far too loud."""
    samples = tone().astype(np.float32)
    samples[::100], samples[1::1000], samples[2::1000] = np.nan, np.inf, -1e30
    return samples


def stereo() -> Any:
    return np.stack([tone(), tone()], 1)


@cache
def valid_audio() -> Mapping[str, bytes]:
    """Files that all contain ``tone``, by what is unusual about them."""
    return {
        **{kind: audio_file(tone(), "WAV", kind)
           for kind in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT")},
        **{kind: audio_file(tone(), kind)
           for kind in ("FLAC", "OGG", "MP3", "AIFF", "RF64", "WAVEX")},
        "Opus": audio_file(tone(), "OGG", "OPUS"),
        "stereo": audio_file(stereo()),
        "16 kHz": audio_file(tone(rate=16_000), rate=16_000),
        "192 kHz": audio_file(tone(rate=192_000), rate=192_000),
        "44,101 Hz": audio_file(tone(rate=44_101), rate=44_101),
    }  # fmt: skip


@cache
def extreme_audio() -> Mapping[str, bytes]:
    """Files with extreme samples, which are accepted."""
    return {
        "some samples are not numbers": audio_file(with_gaps(), "WAV", "FLOAT"),
        "no sample is a number": audio_file(np.full(4800, np.nan, np.float32), "WAV", "FLOAT"),
        "one sample": audio_file(tone()[:1]),
        "silence": audio_file(np.zeros(4800)),
        "loud": audio_file(tone() * 1e30, "WAV", "FLOAT"),
        "1 kHz": audio_file(tone(rate=1000), rate=1000),
    }


INVALID_AUDIO: dict[str, Callable[[], bytes]] = {
    "empty": bytes,
    "zeros": lambda: bytes(1000),
    "an image": lambda: saved(scene(), "PNG"),
    "no magic number": lambda: audio_file(tone())[4:],
    "no samples": lambda: audio_file(np.zeros(0)),
    "no channels": lambda: wav(RATE, 0),
    "65,535 channels": lambda: wav(RATE, 65_535),
    "9 channels": lambda: wav(RATE, 9),
    "0 Hz": lambda: wav(0, 1),
    "1 Hz": lambda: wav(1, 1),
    "4,294,967,295 Hz": lambda: wav(2**32 - 1, 1),
    "384,001 Hz": lambda: wav(384_001, 1),
    "no bits": lambda: wav(RATE, 1, 0),
    "AU": lambda: audio_file(tone(), "AU"),
    "CAF": lambda: audio_file(tone(), "CAF"),
    "ADPCM": lambda: audio_file(tone(), "WAV", "IMA_ADPCM"),
    "eleven minutes": lambda: audio_file(np.zeros(660 * 8000), "FLAC", rate=8000),
    "too many samples": lambda: audio_file(np.zeros(76 * 384_000, np.int16), "FLAC", rate=384_000),
    "too many bytes": lambda: audio_file(tone()) + bytes(21 * 2**20),
}
