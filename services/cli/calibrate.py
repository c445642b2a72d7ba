"""``memetwin cache calibrate``: bounds for a wanted precision, from a file of labelled pairs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc

BATCH = 256
TIMEOUT = 3600
_SIDE = 400
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="-60 -20 {size} {size}" font-family="sans-serif" font-size="14">
<rect width="{side}" height="{side}" fill="none" stroke="#999"/>
<text x="{middle}" y="{below}" text-anchor="middle">hit ratio (0 to 1)</text>
<text transform="translate(-20 {middle}) rotate(-90)" text-anchor="middle">precision (0 to 1)</text>
<polyline fill="none" stroke="#888" stroke-width="2" points="{cosine}"/>
<polyline fill="none" stroke="#c33" stroke-width="2" points="{verifier}"/>
<text x="10" y="{first}" fill="#888">cosine</text><text x="10" y="{second}" fill="#c33">verifier</text>
</svg>
"""  # noqa: E501 - a picture


def calibrate(channel: grpc.Channel, file: Path, precision: float) -> cache_pb2.CalibrateResponse:
    """Send a file of pairs to the gateway.

    Raises:
        ValueError: a line is no pair.
    """
    stub = cache_pb2_grpc.CacheServiceStub(channel)
    return stub.Calibrate(iter(list(_requests(file, precision))), timeout=TIMEOUT)


def sentence(name: str, found: cache_pb2.CalibratedBound) -> str:
    """Return what was found, in a line."""
    if not found.HasField("bound"):
        return f"{name}: no bound reaches this precision"
    precision, recall = map(_share, (found.precision, found.recall))
    return f"{name}: {found.bound:.4f}  precision {precision}  recall {recall}"


def _share(share: cache_pb2.Proportion) -> str:
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"


def picture(found: cache_pb2.CalibrateResponse) -> str:
    """Return both curves, precision over hit ratio, as SVG."""
    return _SVG.format(
        side=_SIDE, size=_SIDE + 80, middle=_SIDE // 2, below=_SIDE + 30,
        first=_SIDE - 30, second=_SIDE - 10,
        cosine=_points(found.min_similarity.curve), verifier=_points(found.min_probability.curve),
    )  # fmt: skip


def _points(curve: Sequence[cache_pb2.CurvePoint]) -> str:
    return " ".join(
        f"{point.hit_ratio * _SIDE:.1f},{(1 - point.precision) * _SIDE:.1f}" for point in curve
    )


def _requests(file: Path, precision: float) -> Iterator[cache_pb2.CalibrateRequest]:
    pairs = [_pair(number, line) for number, line in enumerate(file.read_text().splitlines(), 1)]
    for first in range(0, max(len(pairs), 1), BATCH):
        yield cache_pb2.CalibrateRequest(precision=precision, pairs=pairs[first : first + BATCH])


def _pair(number: int, line: str) -> cache_pb2.LabelledPair:
    try:
        row = json.loads(line)
        return cache_pb2.LabelledPair(one=row["a"], other=row["b"], same=row["duplicate"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'line {number} is not {{"a": …, "b": …, "duplicate": …}}') from error
