from pathlib import Path

import pytest

from memetwin.gateway.v1 import cache_pb2
from services.cli import calibrate

PAIR = '{"a": "one", "b": "two", "duplicate": true}'


def test_pairs_are_sent_in_batches_with_the_precision(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join([PAIR] * (calibrate.BATCH_SIZE + 1)))
    requests = list(calibrate._requests(file, 0.9))
    assert [len(request.pairs) for request in requests] == [calibrate.BATCH_SIZE, 1]
    assert {request.precision for request in requests} == {0.9}
    assert requests[0].pairs[0] == cache_pb2.LabelledPair(one="one", other="two", same=True)


@pytest.mark.parametrize("line", ["no JSON", '{"a": "one"}', '{"a": 1, "b": 2, "duplicate": true}'])
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(f"{PAIR}\n{line}")
    with pytest.raises(ValueError, match="Line 2"):
        list(calibrate._requests(file, 0.9))


def test_a_bound_is_described_with_its_intervals() -> None:
    share = cache_pb2.Proportion(value=0.9, low=0.8, high=0.95)
    bound = cache_pb2.CalibratedBound(bound=0.87654, precision=share, recall=share)
    assert calibrate.describe("min_similarity", bound) == (
        "min_similarity: 0.8765  precision 0.900 [0.800, 0.950]  recall 0.900 [0.800, 0.950]"
    )
    assert "no bound" in calibrate.describe("min_similarity", cache_pb2.CalibratedBound())


def test_the_chart_has_both_curves() -> None:
    points = [cache_pb2.CurvePoint(hit_ratio=0.5, precision=0.75)]
    bound = cache_pb2.CalibratedBound(curve=points)
    response = cache_pb2.CalibrateResponse(min_similarity=bound)
    chart = calibrate.chart(response)
    assert chart.count("<polyline") == 2
    assert 'points="200.0,100.0"' in chart
