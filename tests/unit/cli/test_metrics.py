import math
from pathlib import Path

import pytest

from services.cli.metrics import STAGES, Metrics, Retrieved, draw, ndcg


def response(total: float, *, refused: bool = False) -> Retrieved:
    return Retrieved(
        [], refused, dict.fromkeys(STAGES, 0.0) | {"search": total / 2, "total": total}
    )


def test_ndcg_of_the_best_order_is_one() -> None:
    assert ndcg(["a", "b", "x"], {"a": 2, "b": 1}) == 1


def test_ndcg_discounts_by_rank() -> None:
    assert ndcg(["x", "a"], {"a": 1}) == pytest.approx(1 / math.log2(3))
    assert ndcg(["b", "a"], {"a": 2, "b": 1}) == pytest.approx(
        (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))
    )


def test_ndcg_ends_at_its_depth() -> None:
    assert ndcg(["x", "a"], {"a": 1}, depth=1) == 0


def test_latency_is_a_quantile_of_a_stage() -> None:
    metrics = Metrics(responses=[response(total) for total in (4.0, 1.0, 3.0, 2.0)])
    assert metrics.latency("total", 0.5) == 3
    assert metrics.latency("search", 0.95) == 2
    assert metrics.stages() == ["search", "total"]


def test_refusals_have_a_precision_and_a_recall() -> None:
    metrics = Metrics(answerable_refused=1, unanswerable_refused=3, unanswerable=4)
    assert metrics.refusal() == (0.75, 0.75)
    assert Metrics().refusal() == (0, 0)


def test_the_table_leaves_out_refusals_that_were_not_measured() -> None:
    metrics = Metrics([0.5], [1.0], [0.25], [response(0.1)])
    table = metrics.table()
    assert "| nDCG@10 | 0.5000 |" in table
    assert "| total, ms p50 / p95 | 100.0 / 100.0 |" in table
    assert "refusal precision" not in table
    metrics.unanswerable = metrics.unanswerable_refused = 2
    assert "| refusal precision | 1.0000 |" in metrics.table()


def test_the_charts_are_a_png(tmp_path: Path) -> None:
    metrics = Metrics([0.5, 1.0], [1.0, 1.0], [1.0, 1.0], [response(0.1), response(0.2)])
    draw(metrics, tmp_path / "charts.png")
    assert (tmp_path / "charts.png").read_bytes().startswith(b"\x89PNG")
