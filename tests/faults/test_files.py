"""Pictures and sounds that are odd, broken or evil: a right vector or a refusal, never a crash.

The embedder runs in a process of its own: were it to crash, hang or grow, it would show.
"""

import io
import os
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from PIL import Image

from memetwin.embedder.v1 import embedder_pb2
from services.embedder.decoding import images
from tests import small_models
from tests.embedder_process import EmbedderProcess

OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
FUZZED = 500  # of each, pictures and sounds
AT_ONCE = 16
RATE = 48_000


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbedderProcess]:
    clap = str(small_models.clap(tmp_path_factory.mktemp("clap")))
    models = {"MEMETWIN_TEXT_MODEL": clap, "MEMETWIN_AUDIO_MODEL": clap}
    running = EmbedderProcess(os.environ | models | {"MEMETWIN_EMBED_CACHE": "0"})
    yield running
    assert running.process.poll() is None, "it has crashed"
    running.stop()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def scene(size: tuple[int, int] = (96, 72)) -> Image.Image:
    """A picture that is another one when it is turned or mirrored."""
    gradient = Image.linear_gradient("L").resize(size)
    picture = Image.merge("RGB", (gradient, gradient.rotate(180), gradient.rotate(90)))
    picture.paste((250, 240, 20), (8, 8, 30, 50))
    picture.paste((10, 10, 10), (60, 40, 90, 48))
    return picture


def cut_out() -> Image.Image:
    """The scene with a transparent corner."""
    picture = scene().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 40, 30))
    return picture


def on_white(picture: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def palette_with_a_hole() -> tuple[bytes, Image.Image]:
    """A picture of 63 colours and a transparent one; how it looks on white."""
    indexed = scene().quantize(63)
    indexed.putpalette([*(indexed.getpalette() or [])[: 63 * 3], 1, 2, 3])
    looks = indexed.convert("RGB")
    looks.paste("white", (0, 0, 40, 30))
    indexed.paste(63, (0, 0, 40, 30))
    return saved(indexed, "PNG", transparency=63), looks


def sixteen_bits() -> bytes:
    grey = np.asarray(scene().convert("L")).astype(np.uint16) * 257
    return saved(Image.fromarray(grey), "PNG")


def deep_colours() -> bytes:
    """A PNG of 16 bits for each of three colours, which Pillow does not write."""
    values = np.asarray(scene()).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    return png((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def exif(orientation: int) -> Image.Exif:
    notes = Image.Exif()
    notes[0x0112] = orientation
    return notes


def turned(orientation: int, kind: str) -> bytes:
    """The scene as a camera keeps it that was held otherwise."""
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions
    picture = scene()
    if orientation in back:
        picture = picture.transpose(Image.Transpose(back[orientation]))
    return saved(picture, kind, exif=exif(orientation))


def moving(kind: str) -> bytes:
    frames = [Image.new("RGB", (96, 72), (60 * n, 0, 0)) for n in range(1, 4)]
    return saved(scene(), kind, save_all=True, append_images=frames, duration=50)


GREY, HOLE = scene().convert("L").convert("RGB"), on_white(cut_out())
RIGHT: dict[str, tuple[bytes, Image.Image]] = {
    "PNG": (saved(scene(), "PNG"), scene()),
    "JPEG": (saved(scene(), "JPEG", quality=95), scene()),
    "progressive JPEG": (saved(scene(), "JPEG", quality=95, progressive=True), scene()),
    "CMYK JPEG": (saved(scene().convert("CMYK"), "JPEG", quality=95), scene()),
    "grey JPEG": (saved(GREY.convert("L"), "JPEG", quality=95), GREY),
    "JPEG with more behind it": (saved(scene(), "JPEG", quality=95) + b"more" * 99, scene()),
    "two pictures of a phone in one": (
        saved(scene(), "MPO", quality=95, save_all=True, append_images=[GREY]), scene()),
    "JPEG with broken notes": (
        saved(scene(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), scene()),
    "palette": (saved(scene().quantize(256), "PNG"), scene()),
    "palette with a transparent colour": palette_with_a_hole(),
    "transparent PNG": (saved(cut_out(), "PNG"), HOLE),
    "transparent WebP": (saved(cut_out(), "WEBP", lossless=True), HOLE),
    "transparent GIF": (saved(cut_out(), "GIF"), HOLE),
    "grey with alpha": (saved(scene().convert("LA"), "PNG"), GREY),
    "16 bits": (sixteen_bits(), GREY),
    "48 bits": (deep_colours(), scene()),
    "WebP": (saved(scene(), "WEBP", quality=95), scene()),
    "GIF": (saved(scene(), "GIF"), scene()),
    "BMP": (saved(scene(), "BMP"), scene()),
    "moving GIF": (moving("GIF"), scene()),
    "moving WebP": (moving("WEBP"), scene()),
    "moving PNG": (moving("PNG"), scene()),
    **{f"{kind} held as {n}": (turned(n, kind), scene())
       for n in range(1, 9) for kind in ("JPEG", "PNG", "WEBP")},
}  # fmt: skip


def embed(embedder: EmbedderProcess, inputs: Sequence[embedder_pb2.Input]) -> Any:
    reply = embedder.stub.Embed(embedder_pb2.EmbedRequest(inputs=inputs), timeout=60)
    return np.frombuffer(reply.vectors, "<f4").reshape(len(inputs), reply.dimensions)


def test_odd_pictures_have_the_vectors_of_plain_ones(embedder: EmbedderProcess) -> None:
    odd = embed(embedder, [embedder_pb2.Input(image=data) for data, _ in RIGHT.values()])
    plain = [saved(picture, "PNG") for _, picture in RIGHT.values()]
    expected = embed(embedder, [embedder_pb2.Input(image=data) for data in plain])
    cosines = dict(zip(RIGHT, (odd * expected).sum(1), strict=True))
    assert {name: cosine for name, cosine in cosines.items() if cosine < 0.99} == {}
    mirrored = embed(embedder, [embedder_pb2.Input(image=saved(scene().rotate(90), "PNG"))])
    assert mirrored[0] @ expected[0] < 0.99, "a turned scene should be another picture"


def head(width: int, height: int) -> bytes:
    return struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


def many_scans() -> bytes:
    """A JPEG whose last scan comes again and again: a few bytes, each a pass over all pixels."""
    whole = saved(Image.new("L", (8000, 5000)), "JPEG", progressive=True)
    scan = whole[whole.rfind(b"\xff\xc4", 0, whole.rfind(b"\xff\xda")) : -2]
    return whole[:-2] + scan * 2000 + b"\xff\xd9"


REFUSED: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(1000),
    "a text": b"no picture at all",
    "no magic": saved(scene(), "PNG")[8:],
    "magic alone": b"\x89PNG\r\n\x1a\n",
    "TIFF": saved(scene(), "TIFF"),
    "ICO": saved(scene(), "ICO"),
    "PPM": saved(scene(), "PPM"),
    "EPS": saved(scene(), "EPS"),
    "PDF": saved(scene(), "PDF"),
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
    "a sound": b"RIFF\x24\0\0\0WAVEfmt ",
    "huge PNG": png((b"IHDR", head(100_000, 100_000)), (b"IDAT", zlib.compress(bytes(9)))),
    "wide PNG": png((b"IHDR", head(2**31 - 1, 1)), (b"IDAT", zlib.compress(bytes(9)))),
    "PNG without pixels": png((b"IHDR", head(0, 0)), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")),
    "bomb": saved(Image.new("1", (30_000, 30_000)), "PNG"),
    "huge GIF": b"GIF89a\xff\xff\xff\xff\x80\0\0" + saved(scene(), "GIF")[13:],
    "huge BMP": saved(scene(), "BMP")[:18] + struct.pack("<ii", 60_000, -60_000) + bytes(60),
    "JPEG of many scans": many_scans(),
    "too many bytes": saved(scene(), "PNG") + bytes(images.MAX_BYTES),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_or_too_large_is_refused(embedder: EmbedderProcess, name: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        embed(embedder, [embedder_pb2.Input(image=REFUSED[name])])
    assert refused.value.code() == INVALID
    assert "inputs[0].image" in str(refused.value.trailing_metadata())


def test_cut_pictures_are_refused_or_whole(embedder: EmbedderProcess) -> None:
    plain = embed(embedder, [embedder_pb2.Input(image=saved(scene(), "PNG"))])[0]
    refused = 0
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        whole = saved(scene(), kind)
        cuts = [whole[: len(whole) * part // 12] for part in range(1, 12)]
        for code, rows in answers(embedder, [embedder_pb2.Input(image=cut) for cut in cuts]):
            refused += code == INVALID
            assert code == INVALID or rows[0] @ plain > 0.99
    assert refused > 45


def tone(seconds: float = 0.3, rate: int = RATE) -> Any:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)


def sound(samples: Any, kind: str = "WAV", subtype: str | None = None, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def wav(rate: int, channels: int, bits: int = 16, data: bytes = bytes(4000)) -> bytes:
    """A WAV whose head may say anything."""
    width = channels * bits // 8
    form = struct.pack(
        "<HHIIHH", 1, channels, rate, rate * width % 2**32, width % 2**16, bits)  # fmt: skip
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


def with_gaps() -> Any:
    """ShadowSampler of which some are no numbers, or far too loud."""
    samples = tone().astype(np.float32)
    samples[::100], samples[1::1000], samples[2::1000] = np.nan, np.inf, -1e30
    return samples


STEREO = np.stack([tone(), tone()], 1)
RIGHT_SOUNDS = {
    **{kind: sound(tone(), "WAV", kind) for kind in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT")},
    **{kind: sound(tone(), kind) for kind in ("FLAC", "OGG", "MP3", "AIFF", "RF64", "WAVEX")},
    "Opus": sound(tone(), "OGG", "OPUS"),
    "stereo": sound(STEREO),
    "16 kHz": sound(tone(rate=16_000), rate=16_000),
    "192 kHz": sound(tone(rate=192_000), rate=192_000),
    "a rate like no other": sound(tone(rate=44_101), rate=44_101),
}
FINITE_SOUNDS = {
    "some samples are no numbers": sound(with_gaps(), "WAV", "FLOAT"),
    "none is a number": sound(np.full(4800, np.nan, np.float32), "WAV", "FLOAT"),
    "one sample": sound(tone()[:1]),
    "silence": sound(np.zeros(4800)),
    "loud": sound(tone() * 1e30, "WAV", "FLOAT"),
    "1 kHz": sound(tone(rate=1000), rate=1000),
}
REFUSED_SOUNDS = {
    "empty": b"",
    "zeros": bytes(1000),
    "a picture": saved(scene(), "PNG"),
    "no magic": sound(tone())[4:],
    "no samples": sound(np.zeros(0)),
    "no channels": wav(RATE, 0),
    "65,535 channels": wav(RATE, 65_535),
    "9 channels": wav(RATE, 9),
    "rate 0": wav(0, 1),
    "rate 1": wav(1, 1),
    "rate 4,294,967,295": wav(2**32 - 1, 1),
    "rate 384,001": wav(384_001, 1),
    "no bits": wav(RATE, 1, 0),
    "AU": sound(tone(), "AU"),
    "CAF": sound(tone(), "CAF"),
    "ADPCM": sound(tone(), "WAV", "IMA_ADPCM"),
    "eleven minutes": sound(np.zeros(660 * 8000), "FLAC", rate=8000),
    "more than memory should hold": sound(
        np.zeros((80 * 384_000, 2), np.int16), "FLAC", rate=384_000
    ),
    "too many bytes": sound(tone()) + bytes(21 * 2**20),
}


def test_odd_sounds_have_the_vectors_of_plain_ones(embedder: EmbedderProcess) -> None:
    plain, other = (
        embed(embedder, [embedder_pb2.Input(audio=sound(samples))])[0]
        for samples in (tone(), np.random.default_rng(1).normal(size=14_400) / 5)
    )
    odd = embed(embedder, [embedder_pb2.Input(audio=data) for data in RIGHT_SOUNDS.values()])
    cosines = dict(zip(RIGHT_SOUNDS, odd @ plain, strict=True))
    bar = 0.99
    assert {name: cosine for name, cosine in cosines.items() if cosine < bar} == {}
    assert plain @ other < bar, "noise should be another sound"
    strange = [embedder_pb2.Input(audio=data) for data in FINITE_SOUNDS.values()]
    assert np.isfinite(embed(embedder, strange)).all()


@pytest.mark.parametrize("name", REFUSED_SOUNDS)
def test_what_is_no_sound_or_too_large_is_refused(embedder: EmbedderProcess, name: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        embed(embedder, [embedder_pb2.Input(audio=REFUSED_SOUNDS[name])])
    assert refused.value.code() == INVALID
    assert "inputs[0].audio" in str(refused.value.trailing_metadata())


def spoilt(whole: bytes, chance: random.Random) -> bytes:
    """Cut, lengthen or change a file at random; half of the changes are near its head."""
    data = bytearray(whole)
    match chance.randrange(6):
        case 0:
            del data[chance.randrange(len(data)) :]
        case 1:
            place = chance.randrange(len(data))
            del data[place : place + chance.randrange(1, 40)]
        case 2:
            place = chance.randrange(len(data))
            data[place:place] = chance.randbytes(chance.randrange(1, 40))
    reach = min(len(data), chance.choice((len(data), 128)))
    for _ in range(chance.choice((1, 1, 2, 8, 30)) if reach else 0):
        place = chance.randrange(reach)
        data[place] = chance.choice((data[place] ^ 1 << chance.randrange(8), 0, 255, 127))
    return bytes(data)


def answers(
    embedder: EmbedderProcess, inputs: Sequence[embedder_pb2.Input]
) -> Iterator[tuple[grpc.StatusCode, Any]]:
    """Ask for one at a time, some at once; a reply takes a few seconds at most."""
    requests = [embedder_pb2.EmbedRequest(inputs=[one]) for one in inputs]
    for first in range(0, len(requests), AT_ONCE):
        part = requests[first : first + AT_ONCE]
        for call in [embedder.stub.Embed.future(one, timeout=20) for one in part]:
            code = call.code()
            reply = call.result() if code == OK else None
            yield code, np.frombuffer(reply.vectors, "<f4")[None] if reply else None


def pictures_to_spoil() -> list[bytes]:
    names = ("JPEG", "progressive JPEG", "CMYK JPEG", "JPEG held as 6", "PNG", "palette", "16 bits")
    more = ("WebP", "transparent WebP", "GIF", "BMP", "moving GIF", "moving WebP", "moving PNG")
    return [*(RIGHT[name][0] for name in (*names, *more)), saved(scene(), "TIFF")]


def sounds_to_spoil() -> list[bytes]:
    return [sound(tone()), sound(STEREO), *RIGHT_SOUNDS.values()]


@pytest.mark.parametrize(
    ("kind", "files"), [("image", pictures_to_spoil), ("audio", sounds_to_spoil)]
)
def test_spoilt_files_do_no_harm(
    embedder: EmbedderProcess, kind: str, files: Callable[[], list[bytes]]
) -> None:
    chance, whole = random.Random(7), files()
    spoils = [spoilt(chance.choice(whole), chance) for _ in range(FUZZED)]
    inputs, sample = (
        [embedder_pb2.Input(image=one) if kind == "image" else embedder_pb2.Input(audio=one)
         for one in these]
        for these in (spoils, whole[:2])
    )  # fmt: skip
    before, memory = embed(embedder, sample), embedder.memory()
    codes: Counter[grpc.StatusCode] = Counter()
    for code, rows in answers(embedder, inputs):
        codes[code] += 1
        assert rows is None or (np.isfinite(rows).all() and np.linalg.norm(rows) > 0.99)
    assert set(codes) == {OK, INVALID}
    assert min(codes.values()) > FUZZED / 20
    assert embed(embedder, sample) == pytest.approx(before, abs=1e-5)
    assert embedder.memory() < memory + 1000
