"""``memetwin cache calibrate``: finds the bounds for a target precision on labelled pairs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc

BATCH_SIZE = 256
TIMEOUT = 3600
_CHART_SIZE = 400
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
    """Calibrate the cache on a file of labelled pairs, one JSON object per line.

    Raises:
        ValueError: a line is not a labelled pair.
        grpc.RpcError: the gateway refuses the call or is unreachable.
    """
    stub = cache_pb2_grpc.CacheServiceStub(channel)
    return stub.Calibrate(iter(list(_requests(file, precision))), timeout=TIMEOUT)


def describe(name: str, calibrated: cache_pb2.CalibratedBound) -> str:
    """Return a calibrated bound with its precision and recall as one line."""
    if not calibrated.HasField("bound"):
        return f"{name}: no bound reaches this precision"
    precision, recall = map(_interval, (calibrated.precision, calibrated.recall))
    return f"{name}: {calibrated.bound:.4f}  precision {precision}  recall {recall}"


def _interval(share: cache_pb2.Proportion) -> str:
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"


def chart(bounds: cache_pb2.CalibrateResponse) -> str:
    """Return both curves of precision over hit ratio as SVG."""
    return _SVG.format(
        side=_CHART_SIZE, size=_CHART_SIZE + 80, middle=_CHART_SIZE // 2, below=_CHART_SIZE + 30,
        first=_CHART_SIZE - 30, second=_CHART_SIZE - 10,
        cosine=_points(bounds.min_similarity.curve), verifier=_points(bounds.min_probability.curve),
    )  # fmt: skip


def _points(curve: Sequence[cache_pb2.CurvePoint]) -> str:
    return " ".join(
        f"{point.hit_ratio * _CHART_SIZE:.1f},{(1 - point.precision) * _CHART_SIZE:.1f}"
        for point in curve
    )


def _requests(file: Path, precision: float) -> Iterator[cache_pb2.CalibrateRequest]:
    pairs = [_pair(number, line) for number, line in enumerate(file.read_text().splitlines(), 1)]
    for start in range(0, max(len(pairs), 1), BATCH_SIZE):
        yield cache_pb2.CalibrateRequest(
            precision=precision, pairs=pairs[start : start + BATCH_SIZE]
        )


def _pair(number: int, line: str) -> cache_pb2.LabelledPair:
    try:
        row = json.loads(line)
        return cache_pb2.LabelledPair(one=row["a"], other=row["b"], same=row["duplicate"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'Line {number} is not a JSON object {{"a": …, "b": …, "duplicate": …}}.'
        ) from error
